/** The reading end of a stream: values are pushed in by one side and pulled out by one reader. */
export class Subscription<T> implements AsyncIterableIterator<T> {
  private readonly queue: T[] = [];
  private waiting: PromiseWithResolversOf<IteratorResult<T>> | null = null;
  private failure: Error | null = null;
  private ended = false;
  private readonly onClose: () => void;
  private readonly signal: AbortSignal;

  constructor(signal: AbortSignal, onClose: () => void) {
    this.signal = signal;
    this.onClose = onClose;
    // Not at once: `onClose` may use what the subscription is being assigned to.
    if (signal.aborted) queueMicrotask(this.cancel);
    else signal.addEventListener('abort', this.cancel, { once: true });
  }

  push(value: T): void {
    if (this.ended) return;
    if (this.waiting) {
      this.waiting.resolve({ done: false, value });
      this.waiting = null;
    } else {
      this.queue.push(value);
    }
  }

  /** No more values come; what is queued can still be read. */
  finish(): void {
    this.close();
  }

  fail(error: Error): void {
    if (this.ended) return;
    this.failure = error;
    this.close();
  }

  next(): Promise<IteratorResult<T>> {
    if (this.queue.length > 0) return Promise.resolve({ done: false, value: this.queue.shift() as T });
    if (this.failure) return Promise.reject(this.failure);
    if (this.ended) return Promise.resolve({ done: true, value: undefined });
    this.waiting = withResolvers();
    return this.waiting.promise;
  }

  return(): Promise<IteratorResult<T>> {
    this.cancel();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  private readonly cancel = (): void => {
    this.queue.length = 0;
    this.close();
  };

  private close(): void {
    if (this.ended) return;
    this.ended = true;
    this.signal.removeEventListener('abort', this.cancel);
    if (this.failure) this.waiting?.reject(this.failure);
    else this.waiting?.resolve({ done: true, value: undefined });
    this.waiting = null;
    this.onClose();
  }
}

interface PromiseWithResolversOf<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** `Promise.withResolvers` needs Node 22. */
function withResolvers<T>(): PromiseWithResolversOf<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

import type { Multipart, MultipartFile } from '@fastify/multipart';
import { HoldfastError } from '../domain/errors.ts';

/** The form's part that has the file. */
const FILE = 'file';

export interface Upload {
  readonly filename: string;
  readonly content: AsyncIterable<Buffer>;
}

/**
 * A form with one file in it, read while it arrives: first `file`, then its content, then `rest`. Fields may be before
 * and behind the file. Throws `caller_invalid_request` when it is no such form, or breaks off.
 */
export class UploadForm {
  private readonly parts: AsyncIterator<Multipart>;
  private readonly fields = new Map<string, unknown>();

  constructor(parts: AsyncIterator<Multipart>) {
    this.parts = parts;
  }

  async file(): Promise<Upload> {
    const part = await this.readFields();
    if (part) return { filename: part.filename || FILE, content: readable(part) };
    throw new HoldfastError('caller_invalid_request', `Missing required parameter: '${FILE}'.`, { param: FILE });
  }

  /** All fields by their names. */
  async rest(): Promise<Readonly<Record<string, unknown>>> {
    await this.readFields();
    return Object.fromEntries(this.fields);
  }

  /** Reads up to the file, or to the end of the form. */
  private async readFields(): Promise<MultipartFile | undefined> {
    for (;;) {
      const part = await this.next();
      if (part?.type !== 'field') return part;
      if (part.fieldname === FILE) throw invalid(`'${FILE}' must be a file, with a filename.`);
      this.fields.set(part.fieldname, part.value);
    }
  }

  private async next(): Promise<Multipart | undefined> {
    const { value } = await reading(() => this.parts.next());
    const part: Multipart | undefined = value;
    if (part?.type !== 'file' || part.fieldname === FILE) return part;
    throw new HoldfastError('caller_invalid_request', `Unknown parameter: '${part.fieldname}'.`, {
      param: part.fieldname,
    });
  }
}

async function* readable({ file }: MultipartFile): AsyncGenerator<Buffer> {
  const chunks: AsyncIterator<Buffer> = file[Symbol.asyncIterator]();
  for (;;) {
    const { done, value } = await reading(() => chunks.next());
    if (done) return;
    yield value;
  }
}

/** Whatever goes wrong there is the form's fault: no boundary, too many parts, an end in the middle. */
async function reading<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalid(`The form cannot be read: ${reason}.`);
  }
}

const invalid = (message: string) => new HoldfastError('caller_invalid_request', message, { param: FILE });

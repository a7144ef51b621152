import { createRequire } from 'node:module';
import v8 from 'node:v8';
import vm from 'node:vm';
import { workerData } from 'node:worker_threads';

// What the SDK's workflow thread becomes on the interactive queue. See `lean-threads.ts`.

v8.promiseHooks.createHook = () => () => undefined;

const { runInContext } = vm.Script.prototype;
vm.Script.prototype.runInContext = function (this: vm.Script, context, options) {
  const { timeout, ...rest } = typeof options === 'object' ? options : {};
  return runInContext.call(this, context, rest);
};

createRequire(import.meta.url)(workerData as string);

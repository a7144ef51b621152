import { v7 as uuidv7 } from 'uuid';

/** Prefixes name the surface, so that an operator recognises in Temporal the id a caller saw. */
export type IdPrefix =
  | 'chatcmpl'
  | 'gen'
  | 'resp'
  | 'batch'
  | 'pipe'
  | 'msg'
  | 'pbatch'
  | 'file'
  | 'vk'
  | 'pk'
  | 'proc'
  | 'org'
  | 'team'
  | 'proj'
  | 'user'
  | 'bud'
  | 'aud'
  | 'evt'
  | 'agent';

/** A time-ordered unique id such as `chatcmpl-0199…`; it is the request, run, completion and workflow id at once. */
export const newId = (prefix: IdPrefix): string => `${prefix}-${uuidv7().replaceAll('-', '')}`;

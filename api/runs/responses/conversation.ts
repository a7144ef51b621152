import type { ModelResult } from '../../../domain/chat.ts';
import { HoldfastError } from '../../../domain/errors.ts';
import type { ResponseBody } from '../../../domain/responses/body.ts';
import { inputItemsOf } from '../../../domain/responses/input-items.ts';
import type { Item } from '../../../domain/responses/items.ts';
import { outputItemsOf } from '../../../domain/responses/output-items.ts';
import type { Visible } from '../../../storage/postgres/requests.ts';
import type { ApiDeps } from '../../context.ts';

/** What was said up to a response, itself included. Throws when it is not there or has not been answered. */
export async function conversationUpTo(
  deps: ApiDeps,
  id: string,
  visible: Visible | undefined,
): Promise<readonly Item[]> {
  const param = 'previous_response_id';
  const turns = await deps.responses.conversation(id, visible);
  if (!turns) throw new HoldfastError('caller_not_found', `There is no previous response '${id}'.`, { param });
  const items: Item[] = [];
  for (const turn of turns) {
    if (turn.responseRef === null) {
      throw new HoldfastError('caller_invalid_request', `The response '${turn.id}' has no answer to go on from.`, {
        param,
      });
    }
    const body = await deps.bodies.get<ResponseBody>(turn.inputRef);
    const result = await deps.bodies.get<ModelResult>(turn.responseRef);
    if (!body || !result) {
      throw new HoldfastError('caller_not_found', `What was said in '${turn.id}' is not kept any more.`, { param });
    }
    items.push(...inputItemsOf(body.input, turn.id), ...outputItemsOf(turn, result));
  }
  return items;
}

// What the upstream answers when it is given tools.

interface Said {
  readonly role: string;
  readonly content?: unknown;
  readonly tool_calls?: readonly unknown[];
}

interface Asked {
  readonly messages: readonly Said[];
  readonly tools?: readonly {
    readonly function: { readonly name: string; readonly parameters?: { readonly properties?: object } };
  }[];
  readonly tool_choice?: unknown;
}

/** How often tools are called before the answer, unless the user says `rounds=3`. */
const ROUNDS = 1;

/** A call of each tool, with something for each parameter. Empty once it is time for the answer. */
export function toolCallsFor(body: string): readonly object[] {
  if (!body.includes('"tools"')) return [];
  const { messages, tools = [], tool_choice } = JSON.parse(body) as Asked;
  const round = messages.filter(({ tool_calls }) => tool_calls).length;
  if (tool_choice === 'none' || round >= roundsOf(messages)) return [];
  return tools.map(({ function: { name, parameters } }, index) => {
    const given = Object.fromEntries(Object.keys(parameters?.properties ?? {}).map((key) => [key, 'Hello!']));
    return { id: `call_${round}_${index}`, type: 'function', function: { name, arguments: JSON.stringify(given) } };
  });
}

function roundsOf(messages: readonly Said[]): number {
  const said = messages.find(({ role }) => role === 'user')?.content;
  const [, rounds] = /rounds=(\d+)/.exec(String(said)) ?? [];
  return rounds === undefined ? ROUNDS : Number(rounds);
}

export interface BannerFacts {
  readonly url: string;
  readonly masterKey: string;
  readonly temporalUi: string | undefined;
  readonly providers: readonly string[];
}

/** What a newcomer needs, on stderr, so that stdout stays the log. */
export function printBanner({ url, masterKey, temporalUi, providers }: BannerFacts): void {
  const model = providers.includes('demo') && providers.length === 1 ? 'demo' : 'smart';
  const body = JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello!' }] });
  process.stderr.write(`
  Holdfast is running.

    API          ${url}        (docs at ${url}/docs)
    Master key   ${masterKey}
    Temporal UI  ${temporalUi ?? 'of your own server'}
    Providers    ${providers.join(', ')}

  Try it:

    curl ${url}/v1/chat/completions \\
      -H 'Authorization: Bearer ${masterKey}' \\
      -H 'Content-Type: application/json' \\
      -d '${body}'

`);
}

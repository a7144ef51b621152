import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

const read = (path: string) => readFileSync(new URL(`../deploy/${path}`, import.meta.url), 'utf8');

describe('on Kubernetes', () => {
  it('Temporal has the settings that Holdfast is measured with', () => {
    const values = parse(read('kubernetes/temporal-values.yaml'));
    expect(values.server.dynamicConfig).toEqual(parse(read('temporal/dynamic-config.yaml')));
  });

  it.each(['gateway', 'worker'])('%s pods are found by what selects them', (name) => {
    const [deployment, ...others] = parseAllDocuments(read(`kubernetes/${name}.yaml`)).map((one) => one.toJS());
    const { labels } = deployment.spec.template.metadata;
    expect(deployment.spec.selector.matchLabels).toEqual(labels);
    for (const { spec } of others) expect(spec.selector.matchLabels ?? spec.selector).toEqual(labels);
  });
});

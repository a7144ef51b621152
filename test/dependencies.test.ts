import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '..');

/** What each folder may import at run time. Types may come from anywhere but `api` and `cli`. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  domain: [],
  config: ['domain'],
  providers: ['config', 'domain'],
  storage: ['config', 'domain'],
  calls: ['providers', 'storage', 'config', 'domain'],
  planning: ['providers', 'storage', 'config', 'domain'],
  activities: ['planning', 'calls', 'providers', 'storage', 'config', 'domain'],
  workflows: ['domain'],
  workers: ['activities', 'workflows', 'calls', 'config', 'domain'],
  embedded: ['config', 'domain'],
  api: ['activities', 'workflows', 'planning', 'calls', 'providers', 'storage', 'config', 'domain'],
  cli: ['api', 'workers', 'embedded', 'activities', 'planning', 'calls', 'providers', 'storage', 'config', 'domain'],
};

/** Packages that a workflow bundle may hold. */
const WORKFLOW_PACKAGES = ['@temporalio/workflow', '@temporalio/common'];

interface Import {
  readonly file: string;
  readonly target: string;
  readonly typeOnly: boolean;
}

function importsOf(folder: string): Import[] {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.ts'));
  return files.flatMap((name) => {
    const file = join(root, folder, name);
    const source = readFileSync(file, 'utf8');
    const statements = source.matchAll(/^(?:import|export)\s+(type\s+)?([^;]*?\sfrom\s+)?'([^']+)'/gm);
    const dynamic = source.matchAll(/import\('([^']+)'\)/g);
    return [
      ...[...statements].map(([, type, , target]) => ({ file, target: target ?? '', typeOnly: Boolean(type) })),
      ...[...dynamic].map(([, target]) => ({ file, target: target ?? '', typeOnly: false })),
    ];
  });
}

const folderOf = ({ file, target }: Import): string => relative(root, resolve(file, '..', target)).split('/')[0] ?? '';
const describeImport = (i: Import): string => `${relative(root, i.file)} → ${i.target}`;

describe('the direction of dependencies', () => {
  it.each(Object.keys(MAY_IMPORT))('%s imports only what it may', (folder) => {
    const local = importsOf(folder).filter((i) => i.target.startsWith('.') && folderOf(i) !== folder);
    const wrong = local.filter((i) =>
      i.typeOnly
        ? ['api', 'cli'].includes(folderOf(i)) && folder !== 'cli'
        : !MAY_IMPORT[folder]?.includes(folderOf(i)),
    );
    expect(wrong.map(describeImport)).toEqual([]);
  });

  it('workflows use no package but the SDK’s workflow side', () => {
    const packages = importsOf('workflows').filter((i) => !i.target.startsWith('.') && !i.typeOnly);
    expect(packages.filter((i) => !WORKFLOW_PACKAGES.includes(i.target)).map(describeImport)).toEqual([]);
  });

  it('what workflows take from domain has no packages either', () => {
    const visited = new Set<string>();
    const visit = (file: string): Import[] => {
      if (visited.has(file)) return [];
      visited.add(file);
      const own = importsOf('domain').filter((i) => i.file === file && !i.typeOnly);
      return own.flatMap((i) => (i.target.startsWith('.') ? visit(resolve(file, '..', i.target)) : [i]));
    };
    const entries = importsOf('workflows').filter((i) => !i.typeOnly && i.target.includes('/domain/'));
    const wrong = entries.flatMap((i) => visit(resolve(i.file, '..', i.target)));
    expect(visited.size).toBeGreaterThan(0);
    expect(wrong.map(describeImport)).toEqual([]);
  });
});

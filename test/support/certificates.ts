import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Certificate {
  /** Paths of PEM files. */
  readonly files: { readonly cert: string; readonly key: string };
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** A certificate authority of the test's own, by the openssl command. */
export class CertificateAuthority {
  readonly own: Certificate;
  private readonly dir: string;
  private readonly name: string;

  constructor(dir: string, name: string) {
    this.dir = dir;
    this.name = name;
    const files = this.filesOf('ca');
    openssl('req', '-x509', '-days', '2', ...newKey(files.key), '-out', files.cert, '-subj', `/CN=${name}`);
    this.own = load(files);
  }

  /** @param names Subject alternative names, e.g. `DNS:billing.internal,URI:spiffe://prod/billing`. */
  issue(commonName: string, names?: string): Certificate {
    const files = this.filesOf(commonName);
    const request = `${files.cert}.csr`;
    const extensions = `${files.cert}.ext`;
    writeFileSync(extensions, names ? `subjectAltName=${names}` : '');
    openssl('req', ...newKey(files.key), '-out', request, '-subj', `/CN=${commonName}`);
    const signer = ['-CA', this.own.files.cert, '-CAkey', this.own.files.key, '-CAcreateserial'];
    openssl('x509', '-req', '-days', '2', '-in', request, ...signer, '-extfile', extensions, '-out', files.cert);
    return load(files);
  }

  private filesOf(name: string): Certificate['files'] {
    const base = join(this.dir, `${this.name}-${name}`);
    return { cert: `${base}.pem`, key: `${base}.key` };
  }
}

const newKey = (file: string) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file];
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
const load = (files: Certificate['files']): Certificate => ({
  files,
  cert: readFileSync(files.cert),
  key: readFileSync(files.key),
});

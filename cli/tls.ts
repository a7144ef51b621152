import { readFileSync } from 'node:fs';
import type { TlsOptions } from 'node:tls';
import type { TlsConfig } from '../config/auth-schema.ts';
import { ConfigError } from '../config/yaml-source.ts';

/** Milliseconds a connection may take to agree on keys: until then it keeps a stopping process waiting. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** The front door's TLS, from the files the config names. Throws `ConfigError`. */
export function loadTls(config: TlsConfig): TlsOptions {
  return {
    cert: read('cert', config.cert),
    key: read('key', config.key),
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    ...(config.client_ca && {
      ca: read('client_ca', config.client_ca),
      requestCert: true,
      rejectUnauthorized: config.require_client_cert,
    }),
  };
}

function read(name: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new ConfigError(`server.tls.${name}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { ClientSubjects } from '../../config/auth-schema.ts';
import { type AuthenticatedCaller, namedCaller } from './caller.ts';

/** The caller whom a connection's verified certificate names, if the config knows it. */
export function createCertificateReader(subjects: ClientSubjects): (socket: Socket) => AuthenticatedCaller | undefined {
  const callers = new Map(
    Object.entries(subjects).map(([name, { team = null, project = null, user = null, roles }]) => [
      name,
      namedCaller('client', name, { team, project, user, roles }),
    ]),
  );
  return (socket) => {
    if (callers.size === 0 || !(socket instanceof TLSSocket) || !socket.authorized) return undefined;
    const name = namesOf(socket).find((candidate) => callers.has(candidate));
    return name === undefined ? undefined : callers.get(name);
  };
}

/** URIs, then DNS names, then the common name. */
function namesOf(socket: TLSSocket): readonly string[] {
  const certificate = socket.getPeerX509Certificate();
  if (!certificate) return [];
  // Names with special characters come in quotes, so that none can pass for several; those are not used.
  const alternatives = (certificate.subjectAltName ?? '').split(', ');
  const named = (kind: string) =>
    alternatives.filter((text) => text.startsWith(kind)).map((text) => text.slice(kind.length));
  const common = socket.getPeerCertificate().subject?.CN;
  return [...named('URI:'), ...named('DNS:'), ...(typeof common === 'string' ? [common] : [])];
}

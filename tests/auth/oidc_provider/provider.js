// A certified provider as the tests need it; everything comes as one JSON document in the environment.
import Provider, { errors } from 'oidc-provider';

const { issuer, port, keys, clients, resources, life } = JSON.parse(process.env.PROVIDER);

const provider = new Provider(issuer, {
  clients,
  jwks: { keys },
  scopes: Object.values(resources).flatMap(({ scope }) => scope.split(' ')),
  ttl: { ClientCredentials: life },
  enabledJWA: {
    clientAuthSigningAlgValues: ['RS256', 'ES256', 'ES384', 'Ed25519', 'EdDSA'],
  },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(ctx, resource) {
        const known = resources[resource];
        if (!known) throw new errors.InvalidTarget();
        return { ...known, accessTokenTTL: life, jwt: { sign: { alg: 'RS256' } } };
      },
    },
  },
});

process.stdin.resume().on('end', () => process.exit());
provider.on('server_error', (ctx, error) => console.error(error));
provider.listen(port, '127.0.0.1', () => console.log('listening'));

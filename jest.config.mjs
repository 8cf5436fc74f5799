const base = {
  testEnvironment: '<rootDir>/test/forgetful-environment.mjs',
  // 'source' makes workspace packages resolve to their TypeScript; adding 'import' here breaks jest itself.
  testEnvironmentOptions: { customExportConditions: ['source', 'node', 'node-addons'] },
  extensionsToTreatAsEsm: ['.ts'],
  setupFiles: ['<rootDir>/jest.setup.mjs'],
  modulePathIgnorePatterns: ['/dist/'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: {
          parser: { syntax: 'typescript', decorators: true },
          transform: { legacyDecorator: true, decoratorMetadata: true },
          target: 'es2023',
        },
        module: { type: 'es6' },
      },
    ],
  },
};

/** unit: beside the code, no service. integration: real Postgres, queue, chain, libp2p. e2e: real processes of the built house. */
export default {
  // Only for what hangs: tests wait for something of their own, on machines that do other things as well.
  testTimeout: 60_000,
  testSequencer: '<rootDir>/test/longest-first.mjs',
  projects: [
    {
      ...base,
      displayName: 'unit',
      testMatch: ['<rootDir>/{libs,apps,models}/**/*.test.ts', '<rootDir>/test/house/**/*.test.ts'],
      testPathIgnorePatterns: ['/node_modules/', '\\.integration\\.test\\.ts$'],
    },
    {
      ...base,
      displayName: 'integration',
      testMatch: ['<rootDir>/{libs,apps}/**/*.integration.test.ts', '<rootDir>/test/integration/**/*.test.ts'],
    },
    { ...base, displayName: 'e2e', testMatch: ['<rootDir>/test/e2e/**/*.test.ts'] },
  ],
};

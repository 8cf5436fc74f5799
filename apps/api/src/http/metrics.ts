import type { NextFunction, Request, Response } from 'express';
import type { BooksSeen } from '@freehold/market';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Routes by their pattern, never by their path: ids would make a series each. */
function routeOf(request: Request): string {
  const route: unknown = request.route;
  return typeof route === 'object' && route !== null && 'path' in route && typeof route.path === 'string'
    ? route.path
    : 'unknown';
}

/** What Prometheus reads at /metrics. */
export class ApiMetrics {
  readonly registry = new Registry();
  readonly #requests = new Counter({
    name: 'freehold_http_requests_total',
    help: 'Requests by route and status.',
    labelNames: ['method', 'route', 'status'],
    registers: [this.registry],
  });
  readonly #seconds = new Histogram({
    name: 'freehold_http_request_seconds',
    help: 'Time from the first byte of a request to the last of its answer.',
    labelNames: ['method', 'route'],
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300],
    registers: [this.registry],
  });
  readonly firstByteSeconds = new Histogram({
    name: 'freehold_stream_first_token_seconds',
    help: 'Time from a chat request to its first token.',
    buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15],
    registers: [this.registry],
  });
  readonly inFlight = new Gauge({
    name: 'freehold_http_requests_in_flight',
    help: 'Requests under way.',
    registers: [this.registry],
  });

  readonly #violations = new Gauge({
    name: 'freehold_doctor_violations',
    help: 'What the doctor found wrong at its last look, by check.',
    labelNames: ['check'],
    registers: [this.registry],
  });
  readonly #doctorAgeSeconds = new Gauge({
    name: 'freehold_doctor_age_seconds',
    help: "Time since the doctor's last look.",
    registers: [this.registry],
  });
  readonly #payoutsHalted = new Gauge({
    name: 'freehold_payouts_halted',
    help: '1 while no money leaves, because escrow and ledger differ or the operator said so.',
    registers: [this.registry],
  });

  noteBooks({ payoutsHaltedSince, doctor }: BooksSeen): void {
    this.forgetBooks();
    this.#payoutsHalted.set(payoutsHaltedSince === null ? 0 : 1);
    if (doctor === null) return;
    this.#doctorAgeSeconds.set(doctor.ageMs / 1_000);
    for (const [name, found] of Object.entries(doctor.byCheck)) this.#violations.set({ check: name }, found);
  }

  /** The database cannot be asked: no figure is better than an old one. */
  forgetBooks(): void {
    for (const gauge of [this.#violations, this.#doctorAgeSeconds, this.#payoutsHalted]) gauge.reset();
  }

  readonly middleware = (request: Request, response: Response, next: NextFunction): void => {
    const startedMs = performance.now();
    this.inFlight.inc();
    response.once('close', () => {
      const labels = { method: request.method, route: routeOf(request) };
      this.inFlight.dec();
      this.#requests.inc({ ...labels, status: String(response.statusCode) });
      this.#seconds.observe(labels, (performance.now() - startedMs) / 1_000);
    });
    next();
  };
}

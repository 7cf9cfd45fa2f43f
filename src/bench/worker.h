/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_BENCH_WORKER_H
#define TR_BENCH_WORKER_H

/* The command that tenants of the kit run: `tranche bench-tenant`, not for people. */
#define TR_TENANT_COMMAND "bench-tenant"
int tr_bench_tenant(int argc, char **argv);

#endif /* TR_BENCH_WORKER_H */

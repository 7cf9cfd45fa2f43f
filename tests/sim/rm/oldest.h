/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_OLDEST_H
#define SIM_RM_OLDEST_H

/*
 * Force-included into the simulator's shared objects, so that programs of a distribution
 * with glibc 2.31 can load them. What lived in libpthread before 2.34, or got a new version
 * since, is asked for by the version it has had from the first; the linker names
 * libpthread.so.0 beside (CMakeLists.txt). `sim.oldest_glibc` fails when a name is missing
 * here.
 */
#if defined(__x86_64__)
#define SIM_OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define SIM_OLDEST "GLIBC_2.17"
#else
#error "the versions of this machine's first glibc are not known here"
#endif

#define SIM_OLD(name) __asm__(".symver " #name ", " #name "@" SIM_OLDEST)

SIM_OLD(pthread_create);
SIM_OLD(pthread_detach);
SIM_OLD(pthread_getspecific);
SIM_OLD(pthread_join);
SIM_OLD(pthread_key_create);
SIM_OLD(pthread_key_delete);
SIM_OLD(pthread_once);
SIM_OLD(pthread_rwlock_destroy);
SIM_OLD(pthread_rwlock_init);
SIM_OLD(pthread_rwlock_rdlock);
SIM_OLD(pthread_rwlock_unlock);
SIM_OLD(pthread_rwlock_wrlock);
SIM_OLD(pthread_setspecific);
SIM_OLD(pthread_sigmask);

#undef SIM_OLD

#endif /* SIM_RM_OLDEST_H */

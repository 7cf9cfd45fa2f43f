/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a program that was linked here start on an older glibc (2.31 and up): what the C
 * library of the build machine gave a newer version is asked for by its old one, or under
 * its old name. Linked with -nostartfiles and --wrap (CMakeLists.txt beside it); libdl and
 * libpthread are named, because before 2.34 these functions lived there.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>

#if defined(__x86_64__)
#define OLDEST "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define OLDEST "GLIBC_2.17"
#endif

#define OLD(name) __asm__(".symver old_" #name "," #name "@" OLDEST)

OLD(dlopen);
OLD(dlsym);
OLD(dlclose);
OLD(dlerror);
OLD(pthread_create);
OLD(pthread_join);
OLD(pthread_barrier_init);
OLD(pthread_barrier_wait);
OLD(__libc_start_main);
OLD(__xstat);
OLD(__lxstat);
OLD(__fxstat);

void *old_dlopen(const char *file, int mode);
void *old_dlsym(void *handle, const char *name);
int old_dlclose(void *handle);
char *old_dlerror(void);
int old_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
		       void *(*run)(void *), void *argument);
int old_pthread_join(pthread_t thread, void **result);
int old_pthread_barrier_init(pthread_barrier_t *barrier,
			     const pthread_barrierattr_t *attributes, unsigned count);
int old_pthread_barrier_wait(pthread_barrier_t *barrier);
int old___xstat(int version, const char *path, struct stat *out);
int old___lxstat(int version, const char *path, struct stat *out);
int old___fxstat(int version, int fd, struct stat *out);

void *__wrap_dlopen(const char *file, int mode);
void *__wrap_dlsym(void *handle, const char *name);
int __wrap_dlclose(void *handle);
char *__wrap_dlerror(void);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			  void *(*run)(void *), void *argument);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_barrier_init(pthread_barrier_t *barrier,
				const pthread_barrierattr_t *attributes, unsigned count);
int __wrap_pthread_barrier_wait(pthread_barrier_t *barrier);
int __wrap_stat(const char *path, struct stat *out);
int __wrap_lstat(const char *path, struct stat *out);
int __wrap_fstat(int fd, struct stat *out);

void *__wrap_dlopen(const char *file, int mode)
{
	return old_dlopen(file, mode);
}

void *__wrap_dlsym(void *handle, const char *name)
{
	return old_dlsym(handle, name);
}

int __wrap_dlclose(void *handle)
{
	return old_dlclose(handle);
}

char *__wrap_dlerror(void)
{
	return old_dlerror();
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			  void *(*run)(void *), void *argument)
{
	return old_pthread_create(thread, attributes, run, argument);
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
	return old_pthread_join(thread, result);
}

int __wrap_pthread_barrier_init(pthread_barrier_t *barrier,
				const pthread_barrierattr_t *attributes, unsigned count)
{
	return old_pthread_barrier_init(barrier, attributes, count);
}

int __wrap_pthread_barrier_wait(pthread_barrier_t *barrier)
{
	return old_pthread_barrier_wait(barrier);
}

/* The version word of struct stat, as the old entry points take it. */
#if defined(__x86_64__)
#define STAT_VERSION 1
#else
#define STAT_VERSION 0
#endif

int __wrap_stat(const char *path, struct stat *out)
{
	return old___xstat(STAT_VERSION, path, out);
}

int __wrap_lstat(const char *path, struct stat *out)
{
	return old___lxstat(STAT_VERSION, path, out);
}

int __wrap_fstat(int fd, struct stat *out)
{
	return old___fxstat(STAT_VERSION, fd, out);
}

/* The program has no constructors of its own, so the old start takes no initialiser. */
#if defined(__x86_64__)
__asm__(".globl _start\n"
	".type _start, @function\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rdx, %r9\n"
	"	pop %rsi\n"
	"	mov %rsp, %rdx\n"
	"	and $-16, %rsp\n"
	"	push %rax\n"
	"	push %rsp\n"
	"	xor %r8d, %r8d\n"
	"	xor %ecx, %ecx\n"
	"	lea main(%rip), %rdi\n"
	"	call *old___libc_start_main@GOTPCREL(%rip)\n"
	"	hlt\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n"
	".type _start, %function\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x30, #0\n"
	"	mov x5, x0\n"
	"	ldr x1, [sp]\n"
	"	add x2, sp, #8\n"
	"	mov x6, sp\n"
	"	adrp x0, main\n"
	"	add x0, x0, :lo12:main\n"
	"	mov x3, #0\n"
	"	mov x4, #0\n"
	"	bl old___libc_start_main\n"
	"	brk #0\n");
#endif

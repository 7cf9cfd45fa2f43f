/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver RUNS SEED DIR: each file of DIR as it is, then RUNS inputs made of them by
 * changing, cutting, doubling and joining. For compilers without libFuzzer; the same SEED
 * gives the same inputs. A crash leaves the input in the file that FUZZ_KEEP names.
 */

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define INPUT_MAX 65536u
#define FILES_MAX 256u

struct input {
	uint8_t *bytes;
	size_t n;
};

static struct input corpus[FILES_MAX];
static size_t corpus_count;
static uint8_t work[INPUT_MAX];
static size_t work_bytes;
static uint64_t state;

static uint64_t rnd(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return below ? state % below : 0;
}

static void keep_input(int sig)
{
	const char *path = getenv("FUZZ_KEEP");
	FILE *out = path ? fopen(path, "we") : NULL;

	if (out) {
		fwrite(work, 1, work_bytes, out);
		fclose(out);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

static int read_corpus(const char *path)
{
	struct dirent *e;
	DIR *dir = opendir(path);

	while (dir && (e = readdir(dir)) && corpus_count < FILES_MAX) {
		char name[4096];
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		FILE *in = e->d_name[0] == '.' ? NULL : fopen(name, "re");
		uint8_t *bytes = in ? malloc(INPUT_MAX) : NULL;
		if (bytes)
			corpus[corpus_count++] =
				(struct input){ bytes, fread(bytes, 1, INPUT_MAX, in) };
		if (in)
			fclose(in);
	}
	if (dir)
		closedir(dir);
	return corpus_count ? 0 : -1;
}

/* The input lies right before the end of a heap block, where a checker sees reads beyond
 * it. */
static void run_work(void)
{
	uint8_t *exact = malloc(work_bytes ? work_bytes : 1);

	if (!exact)
		abort();
	memcpy(exact, work, work_bytes);
	LLVMFuzzerTestOneInput(exact, work_bytes);
	free(exact);
}

static void load_work(const struct input *in)
{
	memcpy(work, in->bytes, in->n);
	work_bytes = in->n;
}

static void mutate(void)
{
	static const uint8_t odd[] = { 0,   1,   0x7f, 0x80, 0xff, '{',
				       '}', '(', ';',  '"',  '/',  '*' };
	size_t at = rnd(work_bytes), n = rnd(64);
	const struct input *other = &corpus[rnd(corpus_count)];

	if (!work_bytes)
		return;
	switch (rnd(7)) {
	case 0:
		work[at] ^= (uint8_t)(1u << rnd(8));
		break;
	case 1:
		work[at] = odd[rnd(sizeof odd)];
		break;
	case 2:
		work_bytes = at; /* cut off */
		break;
	case 3: /* take a piece out */
		n = n < work_bytes - at ? n : work_bytes - at;
		memmove(work + at, work + at + n, work_bytes - at - n);
		work_bytes -= n;
		break;
	case 4: /* a piece twice */
		n = n < work_bytes - at ? n : work_bytes - at;
		if (work_bytes + n <= INPUT_MAX) {
			memmove(work + at + n, work + at, work_bytes - at);
			work_bytes += n;
		}
		break;
	case 5: /* a piece of another file */
		n = n < other->n ? n : other->n;
		n = n < work_bytes - at ? n : work_bytes - at;
		memcpy(work + at, other->bytes + rnd(other->n - n + 1), n);
		break;
	default: /* a large number */
		n = work_bytes - at < 8 ? work_bytes - at : 8;
		memset(work + at, rnd(2) ? 0xff : 0x7f, n);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: %s RUNS SEED DIR\n", argv[0]);
		return 2;
	}
	uint64_t runs = strtoull(argv[1], NULL, 10);
	state = strtoull(argv[2], NULL, 10) * 2 + 1;
	if (read_corpus(argv[3])) {
		fprintf(stderr, "%s: no inputs in %s\n", argv[0], argv[3]);
		return 2;
	}
	signal(SIGSEGV, keep_input);
	signal(SIGBUS, keep_input);
	signal(SIGABRT, keep_input);
	signal(SIGALRM, keep_input); /* a hang */
	for (size_t i = 0; i < corpus_count; i++) {
		load_work(&corpus[i]);
		run_work();
	}
	for (uint64_t i = 0; i < runs; i++) {
		if (!(i & 1023))
			alarm(20);
		load_work(&corpus[rnd(corpus_count)]);
		for (uint64_t n = 1 + rnd(6); n; n--)
			mutate();
		run_work();
	}
	printf("%llu inputs of %zu files: no crash, no hang\n", (unsigned long long)runs,
	       corpus_count);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_judge same|ledger|expected A B: compares two outputs of gpu_probe, step by step.
 *   same      results and values of same.* must be equal (A bare, B behind the hook)
 *   ledger    memory.*: B's ledger may differ from what driver A took by a block, 2 MiB. Managed
 *             memory (managed.*) is charged in full by design and not compared
 *   expected  everything but costs and times: A is the simulator's, B the real driver's
 * Prints every disagreement; exit status 1 when there is one (never for `expected`).
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX   1024
#define BLOCK_BYTES (2ll << 20)

struct step {
	char name[200], value[200];
	int result;
};
struct output {
	struct step steps[STEPS_MAX];
	size_t count;
};

static void read_output(struct output *out, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[640];

	if (!f) {
		perror(path);
		exit(2);
	}
	while (out->count < STEPS_MAX && fgets(line, sizeof(line), f)) {
		struct step *s = &out->steps[out->count];

		if (sscanf(line,
			   "{\"step\":\"%199[^\"]\",\"result\":%d,\"value\":\"%199[^\"]\"}",
			   s->name, &s->result, s->value) == 3)
			out->count++;
	}
	fclose(f);
}

static const struct step *find(const struct output *in, const char *name)
{
	for (size_t i = 0; i < in->count; i++)
		if (strcmp(in->steps[i].name, name) == 0)
			return &in->steps[i];
	return NULL;
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_equal(const struct step *a, const struct step *b)
{
	return a->result == b->result && strcmp(a->value, b->value) == 0;
}

static bool is_near(const struct step *a, const struct step *b)
{
	long long difference = strtoll(a->value, NULL, 10) - strtoll(b->value, NULL, 10);

	return a->result == b->result && difference <= BLOCK_BYTES &&
	       difference >= -BLOCK_BYTES;
}

int main(int argc, char **argv)
{
	static struct output a, b;
	unsigned compared = 0, differ = 0;
	const char *mode;

	if (argc != 4) {
		fprintf(stderr, "gpu_judge same|ledger|expected A B\n");
		return 2;
	}
	mode = argv[1];
	read_output(&a, argv[2]);
	read_output(&b, argv[3]);
	for (size_t i = 0; i < a.count; i++) {
		const struct step *x = &a.steps[i], *y = find(&b, x->name);
		bool wanted = strcmp(mode, "same") == 0 ? starts(x->name, "same.")
			      : strcmp(mode, "ledger") == 0
				      ? starts(x->name, "memory.")
				      : !starts(x->name, "cost.") &&
						!starts(x->name, "kill.");

		if (!wanted)
			continue;
		compared++;
		if (y && (strcmp(mode, "ledger") == 0 ? is_near(x, y) : is_equal(x, y)))
			continue;
		differ++;
		printf("  %s: %d \"%s\" | %d \"%s\"\n", x->name, x->result, x->value,
		       y ? y->result : -1, y ? y->value : "no such step");
	}
	printf("  %s: %u steps compared, %u disagree\n", mode, compared, differ);
	if (compared == 0)
		return 1;
	return differ && strcmp(mode, "expected") != 0;
}

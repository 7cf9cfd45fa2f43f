/* SPDX-License-Identifier: Apache-2.0 */
/* A library that would spoil every command of a container is found out before it is mounted. */
#include "tr_test.h"

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deviceplugin/inject/image.h"
#include "deviceplugin/inject/probe.h"
#include "rig.h"
#include "rt/file.h"

#define PATIENCE_MS 20000

static void says(const char *library, int r, const char *words)
{
	struct tr_err err = { 0 };
	int got = tr_probe(library, NULL, TEST_CHILD, PATIENCE_MS, &err);

	if (got != r)
		fail_msg("%s: %d, \"%s\"", library, got, err.msg);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
}

static void test_good(void **state)
{
	struct tr_err err;

	(void)state;
	says(TEST_LIBRARY, 0, "");
	/* Started again by itself, as the agent does; not where sanitizers' own functions come first. */
	if (!TEST_SANITIZED && tr_probe(TEST_LIBRARY, NULL, NULL, PATIENCE_MS, &err) < 0)
		fail_msg("%s", err.msg);
}

/* Where LD_PRELOAD could not say it. */
static void test_strange_path(void **state)
{
	const struct rig *rig = *state;
	size_t n;
	char *bytes = rig_read(TEST_LIBRARY, &n);

	rig_write(rig, "a b:c $ORIGIN.so", bytes, n);
	says(rig_path(rig, "a b:c $ORIGIN.so"), 0, "");
	free(bytes);
}

/* Cut anywhere: the loader would map what is not there, and each program die of it. */
static void test_truncated(void **state)
{
	const struct rig *rig = *state;
	size_t n;
	char *bytes = rig_read(TEST_LIBRARY, &n);
	Elf64_Ehdr head;
	Elf64_Phdr segment;
	size_t needed = 0;

	memcpy(&head, bytes, sizeof(head));
	for (size_t i = 0; i < head.e_phnum; i++) {
		memcpy(&segment, bytes + head.e_phoff + i * sizeof(segment),
		       sizeof(segment));
		if (segment.p_type == PT_LOAD &&
		    segment.p_offset + segment.p_filesz > needed)
			needed = segment.p_offset + segment.p_filesz;
	}
	for (size_t cut = 0; cut < needed; cut += cut < 4096 ? 1 : 509)
		assert_int_equal(tr_image_check(bytes, cut, NULL), -EBADMSG);
	assert_int_equal(tr_image_check(bytes, needed - 1, NULL), -EBADMSG);
	/* Only what tools read is missing. */
	assert_int_equal(tr_image_check(bytes, needed, NULL), 0);
	rig_write(rig, "half.so", bytes, needed / 2);
	says(rig_path(rig, "half.so"), -EBADMSG, "it is cut short");
	rig_write(rig, "head.so", bytes, 70);
	says(rig_path(rig, "head.so"), -EBADMSG, "it is cut short");
	rig_text(rig, "empty.so", "");
	says(rig_path(rig, "empty.so"), -EBADMSG, "is empty");
	rig_text(rig, "text.so",
		 "a library? no, but long enough to have the head of one, or so.\n");
	says(rig_path(rig, "text.so"), -EBADMSG, "it is no library");
	free(bytes);
}

/* Relocations of a form that loaders before glibc 2.36 pass over. Ours may know them: the file alone tells. */
static void test_relr(void **state)
{
	size_t n, changed = 0;
	char *bytes = rig_read(TEST_LIBRARY, &n);
	struct tr_err err = { 0 };
	Elf64_Ehdr head;

	(void)state;
	memcpy(&head, bytes, sizeof(head));
	for (size_t i = 0; i < head.e_phnum; i++) {
		Elf64_Phdr segment;
		Elf64_Dyn entry;

		memcpy(&segment, bytes + head.e_phoff + i * sizeof(segment),
		       sizeof(segment));
		if (segment.p_type != PT_DYNAMIC)
			continue;
		for (size_t at = segment.p_offset; at < segment.p_offset + segment.p_filesz;
		     at += sizeof(entry)) {
			memcpy(&entry, bytes + at, sizeof(entry));
			if (entry.d_tag != DT_SYMTAB)
				continue;
			entry.d_tag = 36; /* DT_RELR */
			memcpy(bytes + at, &entry, sizeof(entry));
			changed++;
		}
	}
	assert_int_equal(changed, 1);
	assert_int_equal(tr_image_check(bytes, n, &err), -EBADMSG);
	assert_string_equal(err.msg, "its relocations need glibc 2.36");
	free(bytes);
}

static void test_other_processors(void **state)
{
	static const struct {
		size_t at;
		unsigned char byte;
	} rows[] = { { EI_CLASS, ELFCLASS32 },
		     { EI_DATA, ELFDATA2MSB },
		     { 18, EM_386 },
		     { 16, ET_EXEC } };
	const struct rig *rig = *state;
	size_t n;

	for (size_t i = 0; i < TR_COUNT(rows); i++) {
		char *bytes = rig_read(TEST_LIBRARY, &n);

		bytes[rows[i].at] = (char)rows[i].byte;
		rig_write(rig, "other.so", bytes, n);
		says(rig_path(rig, "other.so"), -EBADMSG,
		     "it is no library for this machine's processor");
		free(bytes);
	}
}

static void test_unreadable(void **state)
{
	const struct rig *rig = *state;
	size_t n;
	char *bytes = rig_read(TEST_LIBRARY, &n);

	says(rig_path(rig, "none.so"), -ENOENT, "No such file");
	says(rig->folder, -EBADMSG, "not a regular file");
	assert_int_equal(mkfifo(rig_path(rig, "fifo"), 0644), 0);
	says(rig_path(rig, "fifo"), -EBADMSG, "not a regular file");
	rig_write(rig, "mine.so", bytes, n);
	assert_int_equal(chmod(rig_path(rig, "mine.so"), 0600), 0);
	says(rig_path(rig, "mine.so"), -EACCES, "may not be read by everybody (mode 600)");
	free(bytes);
}

/* Libraries that were linked wrongly, and one that does harm when it is loaded. */
static void test_bad_ones(void **state)
{
	(void)state;
	says(TEST_BAD "needs.so", -EBADMSG, "it needs libnobody-has-this.so");
	says(TEST_BAD "newer.so", -EBADMSG, "it needs GLIBC_2.");
	says(TEST_BAD "newer.so", -EBADMSG, "containers may have GLIBC_2.17");
	says(TEST_BAD "undefined.so", -EBADMSG, "undefined symbol: nobody_has_this");
	says(TEST_BAD "dies.so", -EBADMSG, "a program with it died of signal 6");
	says(TEST_BAD "ends.so", -EBADMSG, "cannot be preloaded: no thanks");
}

static void test_no_end(void **state)
{
	uint64_t start = tr_clock_ns(), took;
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(tr_probe(TEST_BAD "hangs.so", NULL, TEST_CHILD, 300, &err),
			 -ETIMEDOUT);
	took = tr_clock_ns() - start;
	assert_true(took >= 300000000u && took < 10000000000u);
	assert_non_null(strstr(err.msg, "did not end in time"));
	/* Closes what it was given and stays. */
	assert_int_equal(tr_probe(TEST_BAD "hides.so", NULL, TEST_CHILD, 300, &err),
			 -ETIMEDOUT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left */
	assert_int_equal(errno, ECHILD);
}

static void test_no_program(void **state)
{
	struct tr_err err = { 0 };

	(void)state;
	assert_int_equal(
		tr_probe(TEST_LIBRARY, NULL, "/nobody/has/this", PATIENCE_MS, &err),
		-ENOENT);
	assert_non_null(strstr(err.msg, "start /nobody/has/this"));
}

/* Found or not, every change of a byte must be survived by who looks. */
static void test_changed_bytes(void **state)
{
	size_t n;
	char *bytes = rig_read(TEST_LIBRARY, &n);
	uint32_t random = 1;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		size_t at;
		char old;

		random = random * 1664525u + 1013904223u;
		/* Mostly in the head and the tables behind it. */
		at = (random >> 8) % (i % 4 ? 1024 : n);
		old = bytes[at];
		bytes[at] = (char)random;
		(void)tr_image_check(bytes, n, NULL);
		bytes[at] = old;
	}
	assert_int_equal(tr_image_check(bytes, n, NULL), 0);
	free(bytes);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, rig_make, rig_remove)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),       WITH_RIG(test_strange_path),
		WITH_RIG(test_truncated),          cmocka_unit_test(test_relr),
		WITH_RIG(test_other_processors),   WITH_RIG(test_unreadable),
		cmocka_unit_test(test_bad_ones),   cmocka_unit_test(test_no_end),
		cmocka_unit_test(test_no_program), cmocka_unit_test(test_changed_bytes),
	};
	int status;

	if (tr_probe_answer(argc, argv, &status))
		return status;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

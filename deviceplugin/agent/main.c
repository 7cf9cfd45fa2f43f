/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "deviceplugin/agent/agent.h"
#include "deviceplugin/agent/revision.h"
#include "deviceplugin/inject/probe.h"

#define EXIT_USAGE 2

extern char **environ;

static int print(struct tr_buf *text)
{
	int r = fwrite(text->p, 1, text->n, stdout) == text->n && fflush(stdout) == 0 ? 0
										      : 1;

	tr_buf_free(text);
	return r;
}

/* What is asked for instead of running, or -1. */
static int answer(const struct tr_config_start *start, const struct tr_config *config)
{
	struct tr_buf text = { 0 };

	if (start->is_help)
		tr_config_print_help(&text);
	else if (start->is_reference)
		tr_config_print_reference(&text);
	else if (start->is_version)
		tr_buf_print(&text, "tranched %s (%s, %s)\n", TR_VERSION, tr_agent_revision,
			     tr_agent_build_date);
	else if (start->is_check)
		tr_config_print(config, &text);
	else
		return -1;
	return print(&text);
}

int main(int argc, char **argv)
{
	const struct tr_config_inputs inputs = { argc, argv, environ };
	struct tr_config config;
	struct tr_config_start start;
	struct tr_buf notes = { 0 };
	struct tr_err err = { 0 };
	int status;

	if (tr_probe_answer(argc, argv, &status))
		return status;
	if (tr_config_load(&config, &start, &inputs, &notes, &err) < 0) {
		(void)fprintf(stderr, "tranched: %s\n", err.msg);
		status = EXIT_USAGE;
	} else {
		(void)fprintf(stderr, "%s", notes.p ? notes.p : "");
		status = answer(&start, &config);
		if (status < 0)
			status = tr_agent_run(&config, &inputs);
	}
	tr_config_free(&config);
	tr_buf_free(&notes);
	return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* Help, completion and the manual page: all from commands.def. */

struct command_row {
	const char *name, *arguments, *summary, *text;
};
struct option_row {
	const char *command, *name, *argument, *text;
};
struct example_row {
	const char *command, *line, *text;
};

static const struct command_row commands[] = {
#define TR_COMMAND(name, arguments, summary, text) { #name, arguments, summary, text },
#define TR_OPTION(...)
#define TR_EXAMPLE(...)
#include "cli/commands.def"
#undef TR_COMMAND
#undef TR_OPTION
};

static const struct option_row options[] = {
#define TR_COMMAND(...)
#define TR_OPTION(command, name, argument, text) { #command, name, argument, text },
#include "cli/commands.def"
#undef TR_OPTION
#undef TR_EXAMPLE
};

static const struct example_row examples[] = {
#define TR_OPTION(...)
#define TR_EXAMPLE(command, line, text) { #command, line, text },
#include "cli/commands.def"
#undef TR_COMMAND
#undef TR_OPTION
#undef TR_EXAMPLE
};

static const char intro[] = "Tranche gives a program a slice of a GPU: so many bytes of "
			    "its memory, held without any\n"
			    "change to the program.\n";

/* TEXT in lines of 78 columns, each after INDENT blanks. */
static void print_wrapped(const char *text, unsigned indent)
{
	unsigned column = 0;

	while (*text) {
		unsigned n = (unsigned)strcspn(text, " ");

		if (column && column + 1 + n > 78) {
			(void)putchar('\n');
			column = 0;
		}
		if (column == 0)
			column = (unsigned)printf("%*s%.*s", (int)indent, "", (int)n, text);
		else
			column += (unsigned)printf(" %.*s", (int)n, text);
		text += n + strspn(text + n, " ");
	}
	(void)putchar('\n');
}

static void print_command(const struct command_row *c)
{
	bool has_heading = false;

	(void)printf("tranche %s %s\n\n", c->name, c->arguments);
	print_wrapped(c->text, 0);
	for (size_t i = 0; i < TR_COUNT(options); i++) {
		if (strcmp(options[i].command, c->name) != 0)
			continue;
		(void)printf("%s  --%s%s%s\n", has_heading ? "" : "\nOptions\n",
			     options[i].name, options[i].argument ? " " : "",
			     options[i].argument ? options[i].argument : "");
		print_wrapped(options[i].text, 6);
		has_heading = true;
	}
	has_heading = false;
	for (size_t i = 0; i < TR_COUNT(examples); i++) {
		if (strcmp(examples[i].command, c->name) != 0)
			continue;
		(void)printf("%s  %-50s %s\n", has_heading ? "" : "\nExamples\n",
			     examples[i].line, examples[i].text);
		has_heading = true;
	}
}

void tr_help_print(const char *command)
{
	for (size_t i = 0; command && i < TR_COUNT(commands); i++)
		if (strcmp(commands[i].name, command) == 0) {
			print_command(&commands[i]);
			return;
		}
	(void)printf("%s\nUsage: tranche COMMAND ...\n\n", intro);
	for (size_t i = 0; i < TR_COUNT(commands); i++)
		(void)printf("  %-11s %s\n", commands[i].name, commands[i].summary);
	(void)printf(
		"\n`tranche COMMAND --help` explains one and shows examples. Begin with\n"
		"  tranche doctor\n"
		"  tranche run --mem 4Gi -- PROGRAM\n");
}

/* The words a shell may offer after COMMAND. */
static void print_option_words(const char *command)
{
	for (size_t i = 0; i < TR_COUNT(options); i++)
		if (strcmp(options[i].command, command) == 0)
			(void)printf("--%s ", options[i].name);
	(void)printf("--help");
}

static void print_bash(void)
{
	(void)printf("_tranche() {\n"
		     "    local cur=${COMP_WORDS[COMP_CWORD]} i\n"
		     "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
		     "        [[ ${COMP_WORDS[i]} == -- ]] && {\n"
		     "            _command_offset $((i + 1)) 2>/dev/null; return; }\n"
		     "    done\n"
		     "    case ${COMP_WORDS[1]} in\n");
	for (size_t i = 0; i < TR_COUNT(commands); i++) {
		(void)printf("    %s) ((COMP_CWORD > 1)) && {\n"
			     "        mapfile -t COMPREPLY < <(compgen -W '",
			     commands[i].name);
		print_option_words(commands[i].name);
		(void)printf("' -- \"$cur\"); return; } ;;\n");
	}
	(void)printf("    esac\n    mapfile -t COMPREPLY < <(compgen -W '");
	for (size_t i = 0; i < TR_COUNT(commands); i++)
		(void)printf("%s ", commands[i].name);
	(void)printf(
		"help version' -- \"$cur\")\n}\ncomplete -o default -F _tranche tranche\n");
}

static void print_zsh(void)
{
	(void)printf("#compdef tranche\n_tranche() {\n    local -a commands=(\n");
	for (size_t i = 0; i < TR_COUNT(commands); i++)
		(void)printf("        '%s:%s'\n", commands[i].name, commands[i].summary);
	(void)printf("    )\n    if ((CURRENT == 2)); then\n"
		     "        _describe command commands\n        return\n    fi\n"
		     "    case ${words[2]} in\n");
	for (size_t i = 0; i < TR_COUNT(commands); i++) {
		(void)printf("    %s) compadd -- ", commands[i].name);
		print_option_words(commands[i].name);
		(void)printf(" ;;\n");
	}
	(void)printf("    esac\n}\ncompdef _tranche tranche\n");
}

static void print_fish(void)
{
	for (size_t i = 0; i < TR_COUNT(commands); i++)
		(void)printf("complete -c tranche -n __fish_use_subcommand -a %s -d '%s'\n",
			     commands[i].name, commands[i].summary);
	for (size_t i = 0; i < TR_COUNT(options); i++)
		(void)printf(
			"complete -c tranche -n '__fish_seen_subcommand_from %s' -l %s%s\n",
			options[i].command, options[i].name,
			options[i].argument ? " -r" : "");
}

int tr_cli_completion(int argc, char **argv)
{
	static const struct {
		const char *shell;
		void (*print)(void);
	} shells[] = { { "bash", print_bash },
		       { "zsh", print_zsh },
		       { "fish", print_fish } };
	struct tr_args args;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, NULL, 0, true, &err);

	if (r < 0)
		return tr_cli_usage(&err, r);
	for (size_t i = 0; args.rest_count == 1 && i < TR_COUNT(shells); i++)
		if (strcmp(args.rest[0], shells[i].shell) == 0) {
			shells[i].print();
			return 0;
		}
	(void)tr_fail(&err, 22, "completion: \"%s\" is not one of bash, zsh, fish",
		      args.rest_count ? args.rest[0] : "");
	return tr_cli_fail(&err, TR_EXIT_USAGE);
}

/* roff takes '.' and '\'' at the start of a line, '-' and '\\' anywhere, for its own. */
static void print_roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		(void)printf("\\&");
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			(void)putchar('\\');
		(void)putchar(*text);
	}
}

static void print_roff_command(const struct command_row *c)
{
	(void)printf(".SS tranche %s ", c->name);
	print_roff(c->arguments);
	(void)printf("\n");
	print_roff(c->text);
	(void)printf("\n");
	for (size_t i = 0; i < TR_COUNT(options); i++) {
		if (strcmp(options[i].command, c->name) != 0)
			continue;
		(void)printf(".TP\n.B \\-\\-%s ", options[i].name);
		print_roff(options[i].argument ? options[i].argument : "");
		(void)printf("\n");
		print_roff(options[i].text);
		(void)printf("\n");
	}
	for (size_t i = 0; i < TR_COUNT(examples); i++) {
		if (strcmp(examples[i].command, c->name) != 0)
			continue;
		(void)printf(".PP\n.EX\n");
		print_roff(examples[i].line);
		(void)printf("\n.EE\n");
	}
}

int tr_cli_manual(int argc, char **argv)
{
	struct tr_args args;
	struct tr_err err = { 0 };
	int r = tr_args_parse(&args, argc, argv, NULL, 0, false, &err);

	if (r < 0)
		return tr_cli_usage(&err, r);
	(void)printf(".TH TRANCHE 1\n.SH NAME\ntranche \\- slices of a GPU\n.SH SYNOPSIS\n"
		     ".B tranche\n.I COMMAND\n[\\fIOPTION\\fR...]\n.SH DESCRIPTION\n");
	print_roff(intro);
	(void)printf(".SH COMMANDS\n");
	for (size_t i = 0; i < TR_COUNT(commands); i++)
		print_roff_command(&commands[i]);
	(void)printf(
		".SH EXIT STATUS\nThat of the program for run and sim; else 0, 1 when "
		"something failed, 2 for a wrong value on the command line (nothing was "
		"created), 126 or 127 when the program could not be started.\n"
		".SH ENVIRONMENT\n.TP\n.B TRANCHE_SIM\nThe directory of the simulated "
		"machine to use.\n.TP\n.B TRANCHE_LIBRARY\nThe libvgpu.so to preload "
		"instead "
		"of the installed one.\n");
	return 0;
}

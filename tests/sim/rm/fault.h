/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_RM_FAULT_H
#define SIM_RM_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The text of faults: rules separated by blanks, commas, semicolons or lines, `#` starts a
 * comment. NAME[:N[+]]=ACTION      NAME may end in '*'; ACTION: a code, lost, hang or
 * delay:DURATION
 */
#define FAULT_RULES_MAX 64

enum fault_action { FAULT_CODE, FAULT_LOST, FAULT_HANG, FAULT_DELAY };

struct fault_rule {
	char name[64]; /* without the '*' */
	bool is_prefix;
	bool is_onwards;
	uint64_t call; /* 0: every call */
	enum fault_action action;
	int code;
	uint64_t delay_ns;
	_Atomic uint64_t calls; /* of this process so far */
};

struct fault_rules {
	uint32_t n;
	struct fault_rule rule[FAULT_RULES_MAX];
};

/* Reads N bytes of TEXT into RULES (overwritten). -EINVAL with a sentence in WHY; RULES is
 * then empty: half a set of faults would be a test of something else. */
int rm_faults_parse(struct fault_rules *rules, const char *text, size_t n, char *why,
		    size_t why_bytes);

/* $TRANCHE_SIM_FAULT: 0, or -EINVAL with the sentence in rm_reason(). */
int rm_faults_check_environment(void);

#endif /* SIM_RM_FAULT_H */

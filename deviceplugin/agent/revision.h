/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TR_AGENT_REVISION_H
#define TR_AGENT_REVISION_H

/* What the agent was built from, written by cmake/revision.cmake: the commit ("-dirty" after it when files were
 * changed) and its date, or "unknown". */
extern const char tr_agent_revision[], tr_agent_build_date[];

#endif /* TR_AGENT_REVISION_H */

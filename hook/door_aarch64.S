/* SPDX-License-Identifier: Apache-2.0 */
/* See door_x86_64.S. tr_door_*() returns x0 (answered) and x1 (answer, or where to go on). */
	.cfi_sections .debug_frame /* as for the rest of the library */
	.text
	.macro DOOR name, routine, caller_register
	.globl \name
	.type \name, %function
	.globl tr_own_\name /* ours, whoever stands before us */
	.hidden tr_own_\name
	.balign 16
tr_own_\name:
\name:
	.cfi_startproc
	hint 34 /* bti c */
	stp x29, x30, [sp, #-48]!
	.cfi_adjust_cfa_offset 48
	.cfi_rel_offset 29, 0
	.cfi_rel_offset 30, 8
	mov x29, sp
	stp x0, x1, [sp, #16]
	str x2, [sp, #32]
	mov \caller_register, x30
	bl \routine
	mov x17, x0
	mov x16, x1
	ldp x0, x1, [sp, #16]
	ldr x2, [sp, #32]
	ldp x29, x30, [sp], #48
	.cfi_adjust_cfa_offset -48
	.cfi_restore 29
	.cfi_restore 30
	cbnz x17, 1f
	cbz x16, 1f
	br x16
1:	mov x0, x16
	ret
	.cfi_endproc
	.size \name, . - \name
	.endm

	.hidden tr_door_dlsym
	.hidden tr_door_dlvsym
	DOOR dlsym, tr_door_dlsym, x2
	DOOR dlvsym, tr_door_dlvsym, x3

	.section .note.GNU-stack, "", %progbits

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlsym and dlvsym. glibc takes the meaning of RTLD_NEXT and RTLD_DEFAULT from the return address,
 * so a look-up that is not ours must reach the real function as if we had not been there: the
 * caller's registers, the caller's return address, a jump. Written here so that no optimiser can
 * make a call of it.
 *
 * tr_door_*() returns two words: rax not 0: rdx is the answer; rax 0: rdx is where to go on.
 */
	.cfi_sections .debug_frame /* as for the rest of the library */
	.text
	.macro DOOR name, routine, caller_register
	.globl \name
	.type \name, @function
	.globl tr_own_\name /* ours, whoever stands before us */
	.hidden tr_own_\name
	.balign 16
tr_own_\name:
\name:
	.cfi_startproc
	endbr64
	pushq %rdi
	.cfi_adjust_cfa_offset 8
	pushq %rsi
	.cfi_adjust_cfa_offset 8
	pushq %rdx
	.cfi_adjust_cfa_offset 8
	movq 24(%rsp), \caller_register
	call \routine
	movq %rdx, %r11
	popq %rdx
	.cfi_adjust_cfa_offset -8
	popq %rsi
	.cfi_adjust_cfa_offset -8
	popq %rdi
	.cfi_adjust_cfa_offset -8
	testq %rax, %rax
	jne 1f
	testq %r11, %r11
	je 1f
	jmp *%r11
1:	movq %r11, %rax
	ret
	.cfi_endproc
	.size \name, . - \name
	.endm

	.hidden tr_door_dlsym
	.hidden tr_door_dlvsym
	DOOR dlsym, tr_door_dlsym, %rdx
	DOOR dlvsym, tr_door_dlvsym, %rcx

	.section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What programs linked with -lcuda or -lnvidia-ml find under the rows' names: a jump through one
 * word each. While it is 0, tr_export_resolve() (route.c) decides who is next and, when it is
 * decided for good, writes the word. The jump is one for all rows: a row is 16 bytes of code and
 * needs no relocation.
 */
	.cfi_sections .debug_frame /* as for the rest of the library */
#if defined(__x86_64__)
	.macro EXPORT name
	.text
	.globl \name
	.type \name, @function
	.balign 16
\name:
	endbr64
	movl $tr_row, %r11d
	jmp next
	.size \name, . - \name
	.section .rodata.tr_hooks, "a", @progbits
	.long tr_hook_\name - tr_row_hooks
	.section .rodata.tr_name_ats, "a", @progbits
	.short name_\name - tr_row_names
	.section .rodata.tr_names, "a", @progbits
name_\name:
	.asciz "\name"
	.set tr_row, tr_row + 1
	.endm

	.text
	.balign 16
	.type next, @function
next:
	leaq tr_export_next(%rip), %r10
	movq (%r10, %r11, 8), %r10
	testq %r10, %r10
	jz resolve
	jmp *%r10
	.size next, . - next
	.type resolve, @function
resolve:
	.cfi_startproc
	pushq %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbp, 0
	movq %rsp, %rbp
	.cfi_def_cfa_register rbp
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq %r8
	pushq %r9
	movl %r11d, %edi
	.hidden tr_export_resolve
	call tr_export_resolve
	popq %r9
	popq %r8
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	popq %rbp
	.cfi_def_cfa rsp, 8
	jmp *%rax
	.cfi_endproc
	.size resolve, . - resolve
#elif defined(__aarch64__)
	.macro EXPORT name
	.text
	.globl \name
	.type \name, %function
	.balign 16
\name:
	hint 34 /* bti c */
	mov w17, #tr_row
	b next
	.size \name, . - \name
	.section .rodata.tr_hooks, "a", %progbits
	.long tr_hook_\name - tr_row_hooks
	.section .rodata.tr_name_ats, "a", %progbits
	.short name_\name - tr_row_names
	.section .rodata.tr_names, "a", %progbits
name_\name:
	.asciz "\name"
	.set tr_row, tr_row + 1
	.endm

	.text
	.type next, %function
next:
	adrp x16, tr_export_next
	add x16, x16, :lo12:tr_export_next
	ldr x16, [x16, x17, lsl #3]
	cbz x16, resolve
	br x16
	.size next, . - next
	.type resolve, %function
resolve:
	.cfi_startproc
	stp x29, x30, [sp, #-96]!
	.cfi_adjust_cfa_offset 96
	.cfi_rel_offset 29, 0
	.cfi_rel_offset 30, 8
	mov x29, sp
	stp x0, x1, [sp, #16]
	stp x2, x3, [sp, #32]
	stp x4, x5, [sp, #48]
	stp x6, x7, [sp, #64]
	str x8, [sp, #80]
	mov w0, w17
	.hidden tr_export_resolve
	bl tr_export_resolve
	mov x16, x0
	ldp x0, x1, [sp, #16]
	ldp x2, x3, [sp, #32]
	ldp x4, x5, [sp, #48]
	ldp x6, x7, [sp, #64]
	ldr x8, [sp, #80]
	ldp x29, x30, [sp], #96
	.cfi_adjust_cfa_offset -96
	.cfi_restore 29
	.cfi_restore 30
	br x16
	.cfi_endproc
	.size resolve, . - resolve
#endif

	.set tr_row, 0
/* Distances, not addresses: nothing for the loader to relocate. */
	.section .rodata.tr_hooks, "a", %progbits
	.balign 4
	.globl tr_row_hooks
	.hidden tr_row_hooks
tr_row_hooks:
	.section .rodata.tr_name_ats, "a", %progbits
	.balign 2
	.globl tr_row_name_ats
	.hidden tr_row_name_ats
tr_row_name_ats:
	.section .rodata.tr_names, "a", %progbits
	.globl tr_row_names
	.hidden tr_row_names
tr_row_names:
	.text
	.balign 16
	.globl tr_row_exports
	.hidden tr_row_exports
tr_row_exports:

#define TR_CALL(symbol, ...) EXPORT symbol ;
#include "calls.def"
#include "nvml_calls.def"

	.bss
	.balign 8
	.globl tr_export_next
	.hidden tr_export_next
tr_export_next:
	.skip 8 * tr_row

	.section .note.GNU-stack, "", %progbits

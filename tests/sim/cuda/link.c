/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The linker. PTX inputs are joined as text, a single binary is handed back as it came, and
 * of a mixture a PTX is written that declares what all inputs declare: enough to load it
 * and to find its functions, which is all that is ever done with code here.
 */

struct input {
	struct input *next;
	struct sim_image *image;
	char *bytes;
	size_t n;
	bool text;
};

struct link {
	struct input *inputs, **tail;
	char *output;
	size_t output_bytes;
};

static CUresult link_of(CUlinkState handle, struct link **out)
{
	if (!sim_live_is(handle, SIM_LIVE_LINK))
		return CUDA_ERROR_INVALID_HANDLE;
	*out = (struct link *)handle;
	return CUDA_SUCCESS;
}

static void free_input(struct input *in)
{
	sim_image_free(in->image);
	free(in->bytes);
	free(in);
}

CUresult cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options,
			 void **optionValues, CUlinkState *stateOut)
{
	struct sim_ctx *ctx;
	SIM_ENTER();
	CUresult r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!stateOut)
		return CUDA_ERROR_INVALID_VALUE;
	r = sim_jit_options(numOptions, options, optionValues);
	if (r != CUDA_SUCCESS)
		return r;
	struct link *l = calloc(1, sizeof *l);
	if (!l || !sim_live_add(l, SIM_LIVE_LINK)) {
		free(l);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	l->tail = &l->inputs;
	*stateOut = (CUlinkState)l;
	return CUDA_SUCCESS;
}

CUresult cuLinkCreate(unsigned int numOptions, CUjit_option *options, void **optionValues,
		      CUlinkState *stateOut)
{
	SIM_ENTER();
	return cuLinkCreate_v2(numOptions, options, optionValues, stateOut);
}

static CUresult add(struct link *l, CUjitInputType type, const void *bytes, size_t n)
{
	struct sim_ctx *ctx;
	CUresult r = sim_ctx_current(&ctx);

	if (r != CUDA_SUCCESS)
		return r;
	if (l->output || !n)
		return CUDA_ERROR_INVALID_VALUE;
	if ((unsigned int)type >= CU_JIT_NUM_INPUT_TYPES)
		return CUDA_ERROR_INVALID_VALUE;
	if (type == CU_JIT_INPUT_LIBRARY || type == CU_JIT_INPUT_NVVM)
		return CUDA_ERROR_NOT_SUPPORTED;
	struct input *in = calloc(1, sizeof *in);
	char *copy = malloc(n + 1);
	if (!in || !copy) {
		free(in);
		free(copy);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	memcpy(copy, bytes, n);
	copy[n] = '\0';
	in->bytes = copy;
	in->text = type == CU_JIT_INPUT_PTX;
	in->n = in->text ? strlen(copy) : n;
	struct sim_image_target target = sim_module_target(ctx);
	r = sim_image_parse(copy, in->n, &target, &in->image);
	if (r != CUDA_SUCCESS) {
		if (in->text && r == CUDA_ERROR_INVALID_IMAGE)
			r = CUDA_ERROR_INVALID_PTX;
		free_input(in);
		return r;
	}
	*l->tail = in;
	l->tail = &in->next;
	return CUDA_SUCCESS;
}

CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size,
			  const char *name, unsigned int numOptions, CUjit_option *options,
			  void **optionValues)
{
	struct link *l;
	SIM_ENTER();
	(void)name;
	if (!data)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = link_of(state, &l);
	if (r == CUDA_SUCCESS)
		r = sim_jit_options(numOptions, options, optionValues);
	return r == CUDA_SUCCESS ? add(l, type, data, size) : r;
}

CUresult cuLinkAddData(CUlinkState state, CUjitInputType type, void *data, size_t size,
		       const char *name, unsigned int numOptions, CUjit_option *options,
		       void **optionValues)
{
	SIM_ENTER();
	return cuLinkAddData_v2(state, type, data, size, name, numOptions, options,
				optionValues);
}

CUresult cuLinkAddFile_v2(CUlinkState state, CUjitInputType type, const char *path,
			  unsigned int numOptions, CUjit_option *options,
			  void **optionValues)
{
	struct link *l;
	void *bytes;
	size_t n;
	SIM_ENTER();
	if (!path)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = link_of(state, &l);
	if (r == CUDA_SUCCESS)
		r = sim_jit_options(numOptions, options, optionValues);
	if (r == CUDA_SUCCESS)
		r = sim_file_read(path, &bytes, &n);
	if (r != CUDA_SUCCESS)
		return r;
	r = add(l, type, bytes, n);
	free(bytes);
	return r;
}

CUresult cuLinkAddFile(CUlinkState state, CUjitInputType type, const char *path,
		       unsigned int numOptions, CUjit_option *options, void **optionValues)
{
	SIM_ENTER();
	return cuLinkAddFile_v2(state, type, path, numOptions, options, optionValues);
}

/* ---- output -------------------------------------------------------------------------- */

static void write_function(FILE *out, const struct sim_image_function *f)
{
	fprintf(out, ".visible %s %s(", f->entry ? ".entry" : ".func", f->name);
	for (size_t i = 0; i < f->param_count; i++) {
		uint32_t offset = f->params[i].offset,
			 align = offset ? offset & -offset : 8;
		fprintf(out, "%s.param .align %u .b8 p%zu[%u]", i ? ", " : "",
			align > 16 ? 16 : align, i, f->params[i].bytes);
	}
	fprintf(out, ")\n.maxntid %u\n{\n", f->max_threads);
	if (f->shared_bytes)
		fprintf(out, ".shared .b8 s[%u];\n", f->shared_bytes);
	for (size_t n = f->code_bytes / 16; n > 1; n--)
		fputs("ret;\n", out);
	fputs("}\n", out);
}

static void write_variable(FILE *out, const struct sim_image_variable *v)
{
	if (v->kind == SIM_VAR_TEXTURE || v->kind == SIM_VAR_SURFACE) {
		fprintf(out, ".global .%sref %s;\n",
			v->kind == SIM_VAR_TEXTURE ? "tex" : "surf", v->name);
		return;
	}
	fprintf(out, ".visible %s %s.align 8 .b8 %s[%llu]",
		v->kind == SIM_VAR_CONST ? ".const" : ".global",
		v->kind == SIM_VAR_MANAGED ? ".attribute(.managed) " : "", v->name,
		(unsigned long long)v->bytes);
	for (size_t i = 0; i < v->init_bytes; i++)
		fprintf(out, "%s%u", i ? "," : " = {", v->init[i]);
	fputs(v->init_bytes ? "};\n" : ";\n", out);
}

static void write_mixture(FILE *out, const struct link *l, uint32_t cc)
{
	fprintf(out, ".version 6.0\n.target sm_%u\n.address_size 64\n", cc ? cc : 50);
	for (const struct input *in = l->inputs; in; in = in->next) {
		for (size_t i = 0; i < in->image->variable_count; i++)
			write_variable(out, &in->image->variables[i]);
		for (size_t i = 0; i < in->image->function_count; i++)
			write_function(out, &in->image->functions[i]);
	}
}

static void write_output(FILE *out, const struct link *l, uint32_t cc)
{
	bool text = true;

	for (const struct input *in = l->inputs; in; in = in->next)
		text &= in->text;
	if (!text && l->inputs->next) {
		write_mixture(out, l, cc);
		return;
	}
	for (const struct input *in = l->inputs; in; in = in->next) {
		fwrite(in->bytes, 1, in->n, out);
		if (text)
			fputc('\n', out);
	}
}

CUresult cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut)
{
	struct link *l;
	struct sim_ctx *ctx;
	SIM_ENTER();
	if (!cubinOut)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = link_of(state, &l);
	if (r == CUDA_SUCCESS)
		r = sim_ctx_current(&ctx);
	if (r != CUDA_SUCCESS)
		return r;
	if (!l->inputs)
		return CUDA_ERROR_INVALID_VALUE;
	if (!l->output) {
		FILE *out = open_memstream(&l->output, &l->output_bytes);
		if (!out)
			return CUDA_ERROR_OUT_OF_MEMORY;
		write_output(out, l, sim_module_target(ctx).cc);
		if (fclose(out))
			return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*cubinOut = l->output;
	if (sizeOut)
		*sizeOut = l->output_bytes;
	return CUDA_SUCCESS;
}

CUresult cuLinkDestroy(CUlinkState state)
{
	struct link *l;
	SIM_ENTER();
	CUresult r = link_of(state, &l);
	if (r != CUDA_SUCCESS)
		return r;
	sim_live_remove(l);
	while (l->inputs) {
		struct input *in = l->inputs;
		l->inputs = in->next;
		free_input(in);
	}
	free(l->output);
	free(l);
	return CUDA_SUCCESS;
}

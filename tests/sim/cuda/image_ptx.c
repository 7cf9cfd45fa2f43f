/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/*
 * PTX, as far as names and sizes go: module directives, entries and functions with their
 * parameter lists, module variables with their sizes and initial values. Bodies are
 * skipped; their statements are counted to say how much code there is.
 */

#define INIT_MAX \
	(1u << 20)         /* initial values kept, bytes; the rest of a variable is zero \
			    */
#define BYTES_PER_STEP 16u /* one statement is about one machine instruction */

struct token {
	const char *p;
	size_t n; /* 0: the end */
};

struct scan {
	const char *p, *end;
	struct token t; /* the present token */
	struct sim_image *image;
	const struct sim_image_target *target;
};

/* One variable or parameter, as its declaration is read. */
struct declared {
	struct token name;
	uint64_t element_bytes, count, align;
	bool managed, texture, surface, is_array;
};

/* ---- tokens -------------------------------------------------------------------------- */

static void skip_blank(struct scan *s)
{
	while (s->p < s->end) {
		if (isspace((unsigned char)*s->p)) {
			s->p++;
		} else if (s->end - s->p > 1 && s->p[0] == '/' && s->p[1] == '/') {
			const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
			s->p = nl ? nl : s->end;
		} else if (s->end - s->p > 1 && s->p[0] == '/' && s->p[1] == '*') {
			const char *close = memmem(s->p + 2, (size_t)(s->end - s->p - 2),
						   "*/", 2);
			s->p = close ? close + 2 : s->end;
		} else {
			return;
		}
	}
}

static bool is_word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.';
}

static void next_token(struct scan *s)
{
	skip_blank(s);
	s->t = (struct token){ s->p, 0 };
	if (s->p >= s->end || *s->p == '\0')
		return;
	if (*s->p == '"') {
		const char *close = memchr(s->p + 1, '"', (size_t)(s->end - s->p - 1));
		s->p = close ? close + 1 : s->end;
	} else if (is_word_char(*s->p)) {
		while (s->p < s->end && is_word_char(*s->p))
			s->p++;
	} else {
		s->p++;
	}
	s->t.n = (size_t)(s->p - s->t.p);
}

static bool is_token(const struct scan *s, const char *text)
{
	return s->t.n == strlen(text) && !memcmp(s->t.p, text, s->t.n);
}

static bool accept_token(struct scan *s, const char *text)
{
	if (!is_token(s, text))
		return false;
	next_token(s);
	return true;
}

static bool is_name(const struct scan *s)
{
	return s->t.n && is_word_char(*s->t.p) && *s->t.p != '.' &&
	       !isdigit((unsigned char)*s->t.p);
}

static uint64_t number_of(const struct scan *s)
{
	char text[32];

	if (!s->t.n || s->t.n >= sizeof text || !isdigit((unsigned char)*s->t.p))
		return 0;
	memcpy(text, s->t.p, s->t.n);
	text[s->t.n] = '\0';
	return strtoull(text, NULL, 0);
}

static void skip_line(struct scan *s)
{
	const char *nl = memchr(s->p, '\n', (size_t)(s->end - s->p));

	s->p = nl ? nl : s->end;
	next_token(s);
}

/* ---- declarations -------------------------------------------------------------------- */

static bool read_type(const struct scan *s, struct declared *d)
{
	static const struct {
		const char *name;
		uint8_t bytes;
	} types[] = { { ".b8", 1 },        { ".u8", 1 },     { ".s8", 1 },
		      { ".b16", 2 },       { ".u16", 2 },    { ".s16", 2 },
		      { ".f16", 2 },       { ".bf16", 2 },   { ".b32", 4 },
		      { ".u32", 4 },       { ".s32", 4 },    { ".f32", 4 },
		      { ".f16x2", 4 },     { ".bf16x2", 4 }, { ".b64", 8 },
		      { ".u64", 8 },       { ".s64", 8 },    { ".f64", 8 },
		      { ".b128", 16 },     { ".texref", 8 }, { ".surfref", 8 },
		      { ".samplerref", 8 } };

	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		if (!is_token(s, types[i].name))
			continue;
		d->element_bytes = types[i].bytes;
		d->texture |= is_token(s, ".texref");
		d->surface |= is_token(s, ".surfref");
		return true;
	}
	return false;
}

static uint64_t times(uint64_t a, uint64_t b)
{
	uint64_t r;

	return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

/* What stands before the name: alignment, type, vector, attributes. */
static bool read_modifiers(struct scan *s, struct declared *d)
{
	uint64_t vector = 1;
	bool pointee =
		false; /* after .ptr, .align is that of what the parameter points to */

	*d = (struct declared){ .count = 1 };
	while (s->t.n && *s->t.p == '.') {
		if (read_type(s, d)) {
			next_token(s);
		} else if (accept_token(s, ".align")) {
			d->align = pointee ? d->align : number_of(s);
			next_token(s);
		} else if (accept_token(s, ".attribute")) {
			while (s->t.n && !is_token(s, ")")) {
				d->managed |= is_token(s, ".managed");
				next_token(s);
			}
			if (!accept_token(s, ")"))
				return false;
		} else {
			pointee |= is_token(s, ".ptr");
			vector = is_token(s, ".v2") ? 2 : is_token(s, ".v4") ? 4 : vector;
			next_token(s);
		}
	}
	d->element_bytes *= vector;
	if (!d->align)
		d->align = d->element_bytes ? d->element_bytes : 1;
	return d->element_bytes != 0;
}

static bool read_name(struct scan *s, struct declared *d)
{
	if (!is_name(s))
		return false;
	d->name = s->t;
	next_token(s);
	d->count = 1;
	d->is_array = false;
	while (accept_token(s, "[")) {
		d->is_array = true;
		if (!is_token(s, "]")) {
			d->count = times(d->count, number_of(s));
			next_token(s);
		} else {
			d->count = 0; /* its initial value gives the size */
		}
		if (!accept_token(s, "]"))
			return false;
	}
	return true;
}

/* ---- initial values ------------------------------------------------------------------ */

static uint64_t value_of(const struct scan *s, bool negative, uint64_t element_bytes)
{
	char text[64];
	uint64_t bits = 0;

	if (!s->t.n || s->t.n >= sizeof text || !isdigit((unsigned char)*s->t.p))
		return 0; /* an address of something: not known here */
	memcpy(text, s->t.p, s->t.n);
	text[s->t.n] = '\0';
	if (text[0] == '0' && strchr("fFdD", text[1]) && text[1])
		return strtoull(text + 2, NULL, 16);
	if (strchr(text, '.')) {
		double wide = negative ? -strtod(text, NULL) : strtod(text, NULL);
		float narrow = (float)wide;
		if (element_bytes == 8)
			memcpy(&bits, &wide, sizeof wide);
		else
			memcpy(&bits, &narrow, sizeof narrow);
		return bits;
	}
	bits = strtoull(text, NULL, 0);
	return negative ? 0 - bits : bits;
}

static bool append_value(struct sim_image_variable *v, uint64_t bits,
			 uint64_t element_bytes)
{
	size_t n = element_bytes < 8 ? (size_t)element_bytes : 8;

	if (v->init_bytes + element_bytes > INIT_MAX)
		return true;
	if (!(v->init_bytes & (v->init_bytes - 1)) || v->init_bytes < 64) {
		size_t room = v->init_bytes < 64 ? 128 : v->init_bytes * 2;
		uint8_t *p = realloc(v->init, room + 16);
		if (!p)
			return false;
		v->init = p;
	}
	memset(v->init + v->init_bytes, 0, (size_t)element_bytes);
	memcpy(v->init + v->init_bytes, &bits, n);
	v->init_bytes += (size_t)element_bytes;
	return true;
}

/* "= 5", "= {1, {2, 3}}": the present token follows the '='. Ends at ',' or ';' outside of
 * braces. */
static CUresult read_init(struct scan *s, const struct declared *d,
			  struct sim_image_variable *v)
{
	size_t depth = 0;
	bool negative = false, expect = true;

	for (; s->t.n; next_token(s)) {
		if (is_token(s, "{")) {
			depth++;
			expect = true;
		} else if (is_token(s, "}")) {
			if (!depth--)
				return CUDA_ERROR_INVALID_PTX;
		} else if (is_token(s, ",") && depth) {
			expect = true;
			negative = false;
		} else if (is_token(s, ",") || is_token(s, ";")) {
			return depth ? CUDA_ERROR_INVALID_PTX : CUDA_SUCCESS;
		} else if (is_token(s, "-")) {
			negative = true;
		} else if (expect) {
			uint64_t bits = value_of(s, negative, d->element_bytes);
			if (!append_value(v, bits, d->element_bytes))
				return CUDA_ERROR_OUT_OF_MEMORY;
			expect = false;
		}
	}
	return CUDA_ERROR_INVALID_PTX;
}

/* ---- module variables ---------------------------------------------------------------- */

static enum sim_variable_kind kind_of(const struct declared *d, bool constant)
{
	if (d->texture)
		return SIM_VAR_TEXTURE;
	if (d->surface)
		return SIM_VAR_SURFACE;
	if (d->managed)
		return SIM_VAR_MANAGED;
	return constant ? SIM_VAR_CONST : SIM_VAR_GLOBAL;
}

/* ".global .align 4 .u32 a = 5, b[3];": the present token follows the state space. */
static CUresult read_variables(struct scan *s, bool constant, bool external)
{
	struct declared d;

	if (!read_modifiers(s, &d))
		return CUDA_ERROR_INVALID_PTX;
	do {
		struct sim_image_variable *v = NULL, unused = { 0 };
		CUresult r = CUDA_SUCCESS;
		if (!read_name(s, &d))
			return CUDA_ERROR_INVALID_PTX;
		if (!external) {
			v = sim_image_add_variable(s->image, d.name.p, d.name.n);
			if (!v)
				return CUDA_ERROR_OUT_OF_MEMORY;
			v->kind = kind_of(&d, constant);
			v->bytes = times(d.element_bytes, d.count);
		}
		if (accept_token(s, "="))
			r = read_init(s, &d, v ? v : &unused);
		free(unused.init);
		if (v && !d.count)
			v->bytes = v->init_bytes;
		if (v && v->init_bytes > v->bytes)
			v->init_bytes = v->bytes;
		if (r != CUDA_SUCCESS)
			return r;
	} while (accept_token(s, ","));
	return accept_token(s, ";") ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
}

/* ---- functions ----------------------------------------------------------------------- */

/* "( .param .u64 a, .param .align 8 .b8 b[24] )"; F may be NULL. The present token follows
 * '('. */
static CUresult read_params(struct scan *s, struct sim_image_function *f)
{
	uint64_t offset = 0;

	if (accept_token(s, ")"))
		return CUDA_SUCCESS;
	do {
		struct declared d;
		if (!read_modifiers(s, &d))
			return CUDA_ERROR_INVALID_PTX;
		if (!is_token(s, "_") && !is_name(s))
			return CUDA_ERROR_INVALID_PTX;
		if (!read_name(s, &d))
			return CUDA_ERROR_INVALID_PTX;
		uint64_t bytes = times(d.element_bytes, d.count);
		if (d.align > 4096 || bytes > 32764)
			return CUDA_ERROR_INVALID_PTX;
		offset = (offset + d.align - 1) / d.align * d.align;
		if (offset > 32764)
			return CUDA_ERROR_INVALID_PTX;
		if (f && !sim_image_add_param(f, (uint32_t)offset, (uint32_t)bytes))
			return CUDA_ERROR_OUT_OF_MEMORY;
		offset += bytes;
	} while (accept_token(s, ","));
	return accept_token(s, ")") ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
}

static void read_shared(struct scan *s, struct sim_image_function *f)
{
	struct declared d;

	if (!read_modifiers(s, &d) || !read_name(s, &d))
		return;
	uint64_t bytes = times(d.element_bytes, d.count) + f->shared_bytes;
	f->shared_bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

/* The present token is '{'. */
static CUresult read_body(struct scan *s, struct sim_image_function *f)
{
	size_t depth = 0, steps = 0;

	while (s->t.n) {
		if (is_token(s, "{")) {
			depth++;
		} else if (is_token(s, "}")) {
			if (!--depth) {
				next_token(s);
				f->code_bytes = (steps + 1) * BYTES_PER_STEP;
				return CUDA_SUCCESS;
			}
		} else if (is_token(s, ";")) {
			steps++;
		} else if (accept_token(s, ".shared")) {
			read_shared(s, f);
			continue;
		}
		next_token(s);
	}
	return CUDA_ERROR_INVALID_PTX;
}

static void read_limits(struct scan *s, struct sim_image_function *f)
{
	uint64_t threads = 1;

	if (!accept_token(s, ".maxntid") && !accept_token(s, ".reqntid")) {
		next_token(s);
		return;
	}
	do {
		threads = times(threads, number_of(s));
		next_token(s);
	} while (accept_token(s, ","));
	if (threads && threads <= 1024)
		f->max_threads = (uint32_t)threads;
}

static void forget_last_function(struct sim_image *image)
{
	struct sim_image_function *f = &image->functions[--image->function_count];

	free(f->name);
	free(f->params);
}

/* The present token follows .entry or .func. A declaration without a body is no function.
 */
static CUresult read_function(struct scan *s, bool entry)
{
	CUresult r = CUDA_SUCCESS;

	if (!entry && accept_token(s, "("))
		r = read_params(s, NULL);
	if (r != CUDA_SUCCESS)
		return r;
	if (!is_name(s))
		return CUDA_ERROR_INVALID_PTX;
	struct sim_image_function *f = sim_image_add_function(s->image, s->t.p, s->t.n);
	if (!f)
		return CUDA_ERROR_OUT_OF_MEMORY;
	f->entry = entry;
	f->params_known = true;
	next_token(s);
	if (accept_token(s, "("))
		r = read_params(s, f);
	while (r == CUDA_SUCCESS && s->t.n && !is_token(s, "{") && !is_token(s, ";"))
		read_limits(s, f);
	if (r != CUDA_SUCCESS)
		return r;
	if (is_token(s, "{"))
		return read_body(s, f);
	forget_last_function(s->image);
	return accept_token(s, ";") ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
}

/* ---- the module ---------------------------------------------------------------------- */

/* The newest PTX that a driver knows: CUDA 11.x speaks 7.x, 12.x 8.x, and so on; 10.2
 * spoke 6.5. */
static bool too_new(int version, uint32_t driver)
{
	int major = (int)(driver / 1000), minor = (int)(driver % 1000 / 10);

	if (!driver)
		return false;
	return version > (major >= 11 ? (major - 4) * 10 + minor : 63 + minor);
}

static CUresult read_version(struct scan *s)
{
	char text[16];

	next_token(s);
	if (!s->t.n || s->t.n >= sizeof text || !isdigit((unsigned char)*s->t.p))
		return CUDA_ERROR_INVALID_PTX;
	memcpy(text, s->t.p, s->t.n);
	text[s->t.n] = '\0';
	char *dot = strchr(text, '.');
	if (!dot)
		return CUDA_ERROR_INVALID_PTX;
	int version = atoi(text) % 1000 * 10 + atoi(dot + 1) % 10;
	next_token(s);
	return too_new(version, s->target->driver_version)
		       ? CUDA_ERROR_UNSUPPORTED_PTX_VERSION
		       : CUDA_SUCCESS;
}

static CUresult read_target(struct scan *s)
{
	uint32_t sm = 0;

	for (next_token(s); is_name(s); next_token(s)) {
		for (size_t i = 3; s->t.n > 4 && i < s->t.n && !memcmp(s->t.p, "sm_", 3);
		     i++)
			if (isdigit((unsigned char)s->t.p[i]) && sm < 100000)
				sm = sm * 10 + (uint32_t)(s->t.p[i] - '0');
		struct scan after = *s;
		next_token(&after);
		if (!is_token(&after, ","))
			break;
		next_token(s);
	}
	next_token(s);
	if (!sm)
		return CUDA_ERROR_INVALID_PTX;
	s->image->ptx_version = (int)sm;
	s->image->binary_version = s->target->cc ? (int)s->target->cc : (int)sm;
	return s->target->cc && sm > s->target->cc ? CUDA_ERROR_NO_BINARY_FOR_GPU
						   : CUDA_SUCCESS;
}

/* Directives that say nothing to us: to the ';' or over the braces. */
static CUresult skip_directive(struct scan *s)
{
	size_t depth = 0;

	for (; s->t.n; next_token(s)) {
		if (is_token(s, "{")) {
			depth++;
		} else if (is_token(s, "}")) {
			if (!depth)
				return CUDA_ERROR_INVALID_PTX;
			if (!--depth)
				break;
		} else if (is_token(s, ";") && !depth) {
			break;
		}
	}
	if (!s->t.n)
		return CUDA_ERROR_INVALID_PTX;
	next_token(s);
	return CUDA_SUCCESS;
}

static bool skip_linkage(struct scan *s)
{
	bool external = false;

	for (;;) {
		if (accept_token(s, ".extern"))
			external = true;
		else if (!accept_token(s, ".visible") && !accept_token(s, ".weak") &&
			 !accept_token(s, ".common"))
			return external;
	}
}

static CUresult read_directive(struct scan *s)
{
	bool external = skip_linkage(s);

	if (is_token(s, ".version"))
		return read_version(s);
	if (is_token(s, ".target"))
		return read_target(s);
	if (accept_token(s, ".address_size")) {
		next_token(s);
		return CUDA_SUCCESS;
	}
	if (is_token(s, ".file") || is_token(s, ".loc")) {
		skip_line(s);
		return CUDA_SUCCESS;
	}
	if (accept_token(s, ".entry"))
		return read_function(s, true);
	if (accept_token(s, ".func"))
		return read_function(s, false);
	if (accept_token(s, ".global"))
		return read_variables(s, false, external);
	if (accept_token(s, ".const"))
		return read_variables(s, true, external);
	if (accept_token(s, ";"))
		return CUDA_SUCCESS;
	return s->t.n && *s->t.p == '.' ? skip_directive(s) : CUDA_ERROR_INVALID_PTX;
}

CUresult sim_ptx_parse(const char *text, size_t n, const struct sim_image_target *target,
		       struct sim_image *image)
{
	struct scan s = { .p = text, .end = text + n, .image = image, .target = target };

	next_token(&s);
	if (!is_token(&s, ".version"))
		return CUDA_ERROR_INVALID_PTX;
	CUresult r = CUDA_SUCCESS;
	while (r == CUDA_SUCCESS && s.t.n)
		r = read_directive(&s);
	if (r != CUDA_SUCCESS)
		return r;
	return image->ptx_version ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/message.h"

#include <errno.h>
#include <stdbool.h>

/* What protobuf-c keeps of each field: twice 40 bytes while it decodes (its tables double), 24 when it
 * is unknown, the pointer to its value. */
#define FIELD_BYTES 112u
#define DEPTH_MAX   16u
#define UNKNOWN     "an unknown field"

struct reader {
	const uint8_t *at, *end;
};

/* At most MOST bytes; false: cut off or longer. */
static bool read_varint(struct reader *r, unsigned most, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < most && r->at < r->end; i++) {
		uint8_t byte = *r->at++;

		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (!(byte & 0x80)) {
			*out = value;
			return true;
		}
	}
	return false;
}

/* Bytes of the UTF-8 sequence that starts at AT, or 0: none, overlong, a surrogate, NUL. */
static size_t utf8_sequence(const uint8_t *at, size_t left)
{
	static const uint32_t least[] = { 0, 1, 0x80, 0x800, 0x10000 };
	size_t n = *at < 0x80       ? 1
		   : *at >> 5 == 6  ? 2
		   : *at >> 4 == 14 ? 3
		   : *at >> 3 == 30 ? 4
				    : 0;
	uint32_t point;

	if (!n || n > left)
		return 0;
	point = n == 1 ? *at : *at & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if (at[i] >> 6 != 2)
			return 0;
		point = point << 6 | (at[i] & 0x3f);
	}
	if (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
		return 0;
	return n;
}

static bool is_text(const uint8_t *at, size_t n)
{
	while (n) {
		size_t step = utf8_sequence(at, n);

		if (!step)
			return false;
		at += step;
		n -= step;
	}
	return true;
}

static int check_at(const ProtobufCMessageDescriptor *type, struct reader r, unsigned depth,
		    size_t *room, struct tr_err *err);

static int check_payload(const ProtobufCMessageDescriptor *type,
			 const ProtobufCFieldDescriptor *field, struct reader in,
			 unsigned depth, size_t *room, struct tr_err *err)
{
	size_t n = (size_t)(in.end - in.at);

	if (!field || field->type == PROTOBUF_C_TYPE_BYTES) {
		*room += n;
		return 0;
	}
	if (field->type == PROTOBUF_C_TYPE_STRING) {
		*room += n + 1;
		return is_text(in.at, n) ? 0
					 : tr_fail(err, EBADMSG, "%s.%s is not text",
						   type->short_name, field->name);
	}
	if (field->type == PROTOBUF_C_TYPE_MESSAGE)
		return check_at(field->descriptor, in, depth + 1, room, err);
	*room += n * sizeof(uint64_t); /* packed numbers */
	return field->label == PROTOBUF_C_LABEL_REPEATED
		       ? 0
		       : tr_fail(err, EBADMSG, "%s.%s is no number", type->short_name,
				 field->name);
}

/* Moves behind the value of a field; *N: bytes of a length-prefixed one, just passed. */
static bool skip_value(struct reader *r, unsigned wire, size_t *n)
{
	uint64_t value;

	*n = wire == PROTOBUF_C_WIRE_TYPE_64BIT   ? 8
	     : wire == PROTOBUF_C_WIRE_TYPE_32BIT ? 4
						  : 0;
	if (wire == PROTOBUF_C_WIRE_TYPE_VARINT)
		return read_varint(r, 10, &value);
	if (wire == PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
		if (!read_varint(r, 5, &value) || value > (uint64_t)(r->end - r->at))
			return false;
		*n = (size_t)value;
	} else if (!*n) {
		return false; /* groups */
	}
	if (*n > (size_t)(r->end - r->at))
		return false;
	r->at += *n;
	return true;
}

static int check_at(const ProtobufCMessageDescriptor *type, struct reader r, unsigned depth,
		    size_t *room, struct tr_err *err)
{
	if (depth > DEPTH_MAX)
		return tr_fail(err, EBADMSG, "%s is nested too deep", type->short_name);
	*room += type->sizeof_message;
	while (r.at < r.end) {
		const ProtobufCFieldDescriptor *field;
		uint64_t tag;
		size_t n;
		int err_code;

		if (!read_varint(&r, 5, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
			return tr_fail(err, EBADMSG, "%s is cut off or garbled",
				       type->short_name);
		field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
		if (!skip_value(&r, tag & 7, &n))
			return tr_fail(err, EBADMSG, "%s.%s is cut off or garbled",
				       type->short_name, field ? field->name : UNKNOWN);
		*room += FIELD_BYTES;
		if ((tag & 7) != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED)
			continue;
		err_code = check_payload(type, field, (struct reader){ r.at - n, r.at },
					 depth, room, err);
		if (err_code < 0)
			return err_code;
	}
	return 0;
}

int tr_message_check(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
		     size_t *room_bytes, struct tr_err *err)
{
	size_t room = 0;
	int r = check_at(type, (struct reader){ bytes, bytes + n }, 0, &room, err);

	if (room_bytes)
		*room_bytes = room;
	return r;
}

int tr_message_read(const ProtobufCMessageDescriptor *type, const uint8_t *bytes, size_t n,
		    size_t most_bytes, ProtobufCMessage **out, struct tr_err *err)
{
	size_t room;
	int r = tr_message_check(type, bytes, n, &room, err);

	*out = NULL;
	if (r < 0)
		return r;
	if (room > most_bytes)
		return tr_fail(err, EMSGSIZE,
			       "%s needs up to %zu bytes decoded, at most %zu",
			       type->short_name, room, most_bytes);
	errno = 0;
	*out = protobuf_c_message_unpack(type, NULL, n, bytes);
	if (*out)
		return 0;
	return errno == ENOMEM ? tr_fail(err, ENOMEM, "no memory for %s", type->short_name)
			       : tr_fail(err, EBADMSG, "%s has a field of another type",
					 type->short_name);
}

void tr_message_free(ProtobufCMessage *message)
{
	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

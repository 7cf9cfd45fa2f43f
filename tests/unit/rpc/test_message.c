/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/deviceplugin.pb-c.h"
#include "proto/podresources.pb-c.h"
#include "rpc/message.h"
#include "tr_test.h"

#define ALLOCATE  (&v1beta1__allocate_request__descriptor)
#define DEVICE    (&v1beta1__device__descriptor)
#define PREFERRED (&v1beta1__container_preferred_allocation_request__descriptor)
#define RESOURCES (&v1__container_resources__descriptor)

/* Bytes with their length: they hold NULs. */
#define B(text) .bytes = (text), .n = sizeof(text) - 1

static const struct check_case {
	const char *name;
	const ProtobufCMessageDescriptor *type;
	const char *bytes;
	size_t n;
	int want;
	const char *says;
} cases[] = {
	{ "empty", ALLOCATE, B(""), 0, NULL },
	{ "one id", ALLOCATE, B("\x0a\x04\x0a\x02g0"), 0, NULL },
	{ "empty id", ALLOCATE, B("\x0a\x02\x0a\x00"), 0, NULL },
	{ "inner cut off", ALLOCATE, B("\x0a\x04\x0a\x05g0"), -EBADMSG,
	  "ContainerAllocateRequest.devices_ids is cut off" },
	{ "outer cut off", ALLOCATE, B("\x0a\x05\x0a\x02g0"), -EBADMSG,
	  "AllocateRequest.container_requests is cut off" },
	{ "tag cut off", ALLOCATE, B("\x8a"), -EBADMSG, "AllocateRequest is cut off" },
	{ "length cut off", ALLOCATE, B("\x0a"), -EBADMSG, "cut off" },
	{ "length of 2^32 - 1", ALLOCATE, B("\x0a\xff\xff\xff\xff\x0f"), -EBADMSG,
	  "cut off" },
	{ "length without an end", ALLOCATE,
	  B("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -EBADMSG, "cut off" },
	{ "field number 0", ALLOCATE, B("\x02\x00"), -EBADMSG, "garbled" },
	{ "field number 2^29", ALLOCATE, B("\x82\x80\x80\x80\x10\x00"), -EBADMSG,
	  "garbled" },
	{ "group", ALLOCATE, B("\x0b\x0c"), -EBADMSG, "garbled" },
	{ "unknown group", ALLOCATE, B("\x7b\x7c"), -EBADMSG, "unknown field" },
	{ "wire type 7", ALLOCATE, B("\x0f"), -EBADMSG, "garbled" },
	{ "unknown varint", ALLOCATE, B("\x78\x01"), 0, NULL },
	{ "unknown text that is none", ALLOCATE, B("\x7a\x01\xff"), 0, NULL },
	{ "unknown 64 bits, cut off", ALLOCATE, B("\x79\x01"), -EBADMSG, "cut off" },
	{ "unknown 32 bits", ALLOCATE, B("\x7d\x01\x02\x03\x04"), 0, NULL },
	{ "NUL in an id", DEVICE, B("\x0a\x03g\0x"), -EBADMSG, "Device.ID is not text" },
	{ "UTF-8", DEVICE, B("\x0a\x09\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), 0, NULL },
	{ "UTF-8 cut off", DEVICE, B("\x0a\x02\xe2\x82"), -EBADMSG, "not text" },
	{ "overlong", DEVICE, B("\x0a\x02\xc0\xaf"), -EBADMSG, "not text" },
	{ "overlong, 3 bytes", DEVICE, B("\x0a\x03\xe0\x80\x80"), -EBADMSG, "not text" },
	{ "surrogate", DEVICE, B("\x0a\x03\xed\xa0\x80"), -EBADMSG, "not text" },
	{ "beyond U+10FFFF", DEVICE, B("\x0a\x04\xf4\x90\x80\x80"), -EBADMSG, "not text" },
	{ "continuation alone", DEVICE, B("\x0a\x01\x80"), -EBADMSG, "not text" },
	{ "text as a number", DEVICE, B("\x08\x01"), -EBADMSG, "another type" },
	{ "number as text", PREFERRED, B("\x1a\x01x"), -EBADMSG,
	  "allocation_size is no number" },
	{ "negative number", PREFERRED, B("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	  0, NULL },
	{ "number of 11 bytes", PREFERRED,
	  B("\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), -EBADMSG, "cut off" },
	{ "packed numbers", RESOURCES, B("\x1a\x03\x01\x02\x03"), 0, NULL },
	{ "packed numbers, cut off", RESOURCES, B("\x1a\x02\x01\x82"), -EBADMSG,
	  "another type" },
	{ "singular message twice", DEVICE,
	  B("\x1a\x04\x0a\x02\x08\x01\x1a\x04\x0a\x02\x08\x02"), 0, NULL },
};

static void check(void **state)
{
	const struct check_case *c = *state;
	ProtobufCMessage *message;
	struct tr_err err = { 0 };
	uint8_t *exact = malloc(c->n ? c->n : 1);

	memcpy(exact, c->bytes, c->n);
	assert_int_equal(tr_message_read(c->type, exact, c->n, 65536, &message, &err),
			 c->want);
	if (c->want == 0)
		assert_non_null(message);
	else
		assert_null(message);
	if (c->says)
		assert_non_null(strstr(err.msg, c->says));
	tr_message_free(message);
	free(exact);
}

/* Two bytes of wire each become a message of 40. */
static void grows(void **state)
{
	static uint8_t bytes[65536];
	ProtobufCMessage *message;
	struct tr_err err = { 0 };
	size_t room;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i += 2)
		bytes[i] = 0x0a;
	assert_int_equal(tr_message_check(ALLOCATE, bytes, sizeof(bytes), &room, &err), 0);
	assert_in_range(room, 32768 * 100, 32768 * 200);
	assert_int_equal(
		tr_message_read(ALLOCATE, bytes, sizeof(bytes), 1u << 20, &message, &err),
		-EMSGSIZE);
	assert_null(message);
	assert_int_equal(
		tr_message_read(ALLOCATE, bytes, sizeof(bytes), room, &message, &err), 0);
	tr_message_free(message);
}

static void free_nothing(void **state)
{
	(void)state;
	tr_message_free(NULL);
}

int main(void)
{
	struct CMUnitTest tests[TR_COUNT(cases) + 2] = { cmocka_unit_test(grows),
							 cmocka_unit_test(free_nothing) };

	for (size_t i = 0; i < TR_COUNT(cases); i++)
		tests[i + 2] = (struct CMUnitTest){
			.name = cases[i].name,
			.test_func = check,
			.initial_state = (void *)(uintptr_t)&cases[i],
		};
	return cmocka_run_group_tests_name("rpc message", tests, NULL, NULL);
}

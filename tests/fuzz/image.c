/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's reader of module images, with any bytes. First byte: the device it is
 * for. */

#include <stddef.h>
#include <stdint.h>

#include "fuzz.h"
#include "image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct sim_image_target target = { 0, 13050 };
	struct sim_image *image;

	if (!n)
		return 0;
	target.cc = bytes[0] & 1 ? 90 : 0;
	if (sim_image_parse(bytes + 1, n - 1, &target, &image) == CUDA_SUCCESS)
		sim_image_free(image);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "launch.h"
#include "module.h"

/* How many blocks fit: plain arithmetic of threads, registers and shared memory. */

#define WARP           32u
#define REGISTER_CHUNK 256u /* registers are given to a warp in such steps */

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t blocks_per_sm(const struct sim_function *f, uint32_t threads,
			      size_t dynamic_bytes)
{
	struct sim_limits l;

	sim_limits_of(f->module->ctx, &l);
	uint32_t warps = (threads + WARP - 1) / WARP;
	uint32_t warp_registers = (f->decl->registers * WARP + REGISTER_CHUNK - 1) /
				  REGISTER_CHUNK * REGISTER_CHUNK;
	uint64_t shared = (uint64_t)f->decl->shared_bytes + dynamic_bytes;
	if (threads > f->decl->max_threads || shared > l.shared_optin)
		return 0;
	uint32_t n = least(l.blocks_per_sm, l.threads_per_sm / (warps * WARP));
	if (warp_registers)
		n = least(n, l.registers_per_sm / (warp_registers * warps));
	shared += l.shared_reserved;
	return shared ? least(n, (uint32_t)(l.shared_per_sm / shared)) : n;
}

CUresult sim_occupancy(const struct sim_function *f, unsigned threads, size_t dynamic_bytes,
		       int *out)
{
	*out = (int)blocks_per_sm(f, threads, dynamic_bytes);
	return CUDA_SUCCESS;
}

static CUresult max_active(int *out, CUfunction func, int threads, size_t dynamic_bytes,
			   unsigned flags)
{
	struct sim_function *f;

	if (!out || threads <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(func, &f);
	if (r == CUDA_SUCCESS)
		*out = (int)blocks_per_sm(f, (uint32_t)threads, dynamic_bytes);
	return r;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func,
						     int blockSize, size_t dynamicSMemSize)
{
	SIM_ENTER();
	return max_active(numBlocks, func, blockSize, dynamicSMemSize, 0);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *numBlocks,
							      CUfunction func,
							      int blockSize,
							      size_t dynamicSMemSize,
							      unsigned int flags)
{
	SIM_ENTER();
	return max_active(numBlocks, func, blockSize, dynamicSMemSize, flags);
}

struct block_search {
	CUoccupancyB2DSize shared_of; /* NULL: always dynamic_bytes */
	size_t dynamic_bytes;
	int limit;
	unsigned flags;
};

/* The block size with the most resident threads; of equals the largest. */
static CUresult best_block(int *grid, int *block, CUfunction func,
			   const struct block_search *s)
{
	struct sim_function *f;
	struct sim_limits l;
	uint32_t best = 0, best_threads = 0, best_blocks = 0;

	if (!grid || !block || s->limit < 0 ||
	    s->flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(func, &f);
	if (r != CUDA_SUCCESS)
		return r;
	uint32_t most = f->decl->max_threads;
	if (s->limit)
		most = least(most, (uint32_t)s->limit);
	for (uint32_t n = (most + WARP - 1) / WARP * WARP; n; n -= WARP) {
		uint32_t threads = least(n, most);
		size_t dynamic = s->shared_of ? s->shared_of((int)threads)
					      : s->dynamic_bytes;
		uint32_t blocks = blocks_per_sm(f, threads, dynamic);
		if (blocks * threads > best) {
			best = blocks * threads;
			best_threads = threads;
			best_blocks = blocks;
		}
	}
	sim_limits_of(f->module->ctx, &l);
	*grid = (int)(best_blocks * l.sm_count);
	*block = (int)best_threads;
	return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
					  CUoccupancyB2DSize blockSizeToDynamicSMemSize,
					  size_t dynamicSMemSize, int blockSizeLimit)
{
	SIM_ENTER();
	struct block_search s = { blockSizeToDynamicSMemSize, dynamicSMemSize,
				  blockSizeLimit, 0 };
	return best_block(minGridSize, blockSize, func, &s);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(
	int *minGridSize, int *blockSize, CUfunction func,
	CUoccupancyB2DSize blockSizeToDynamicSMemSize, size_t dynamicSMemSize,
	int blockSizeLimit, unsigned int flags)
{
	SIM_ENTER();
	struct block_search s = { blockSizeToDynamicSMemSize, dynamicSMemSize,
				  blockSizeLimit, flags };
	return best_block(minGridSize, blockSize, func, &s);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *dynamicSmemSize, CUfunction func,
						 int numBlocks, int blockSize)
{
	struct sim_function *f;
	struct sim_limits l;
	SIM_ENTER();
	if (!dynamicSmemSize || numBlocks <= 0 || blockSize <= 0)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(func, &f);
	if (r != CUDA_SUCCESS)
		return r;
	if (blocks_per_sm(f, (uint32_t)blockSize, 0) < (uint32_t)numBlocks)
		return CUDA_ERROR_INVALID_VALUE;
	sim_limits_of(f->module->ctx, &l);
	uint64_t each = l.shared_per_sm / (uint32_t)numBlocks / 128 * 128;
	uint64_t fixed = f->decl->shared_bytes + l.shared_reserved;
	uint64_t left = each > fixed ? each - fixed : 0;
	*dynamicSmemSize = left < l.shared_optin ? left : l.shared_optin;
	return CUDA_SUCCESS;
}

static CUresult check_config(CUfunction func, const CUlaunchConfig *config,
			     struct sim_function **f, struct sim_limits *l)
{
	if (!config || !config->gridDimX || !config->gridDimY || !config->gridDimZ ||
	    !config->blockDimX || !config->blockDimY || !config->blockDimZ ||
	    (config->numAttrs && !config->attrs))
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = sim_function_of(func, f);
	if (r != CUDA_SUCCESS)
		return r;
	sim_limits_of((*f)->module->ctx, l);
	return l->cluster_max > 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CLUSTER_SIZE;
}

CUresult cuOccupancyMaxPotentialClusterSize(int *clusterSize, CUfunction func,
					    const CUlaunchConfig *config)
{
	struct sim_function *f;
	struct sim_limits l;
	SIM_ENTER();
	if (!clusterSize)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = check_config(func, config, &f, &l);
	if (r == CUDA_SUCCESS)
		*clusterSize = f->nonportable ? (int)l.cluster_max * 2 : (int)l.cluster_max;
	return r;
}

CUresult cuOccupancyMaxActiveClusters(int *numClusters, CUfunction func,
				      const CUlaunchConfig *config)
{
	struct sim_function *f;
	struct sim_limits l;
	uint64_t cluster = 1;
	SIM_ENTER();
	if (!numClusters)
		return CUDA_ERROR_INVALID_VALUE;
	CUresult r = check_config(func, config, &f, &l);
	if (r != CUDA_SUCCESS)
		return r;
	for (unsigned i = 0; i < config->numAttrs; i++)
		if (config->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
			cluster = (uint64_t)config->attrs[i].value.clusterDim.x *
				  config->attrs[i].value.clusterDim.y *
				  config->attrs[i].value.clusterDim.z;
	if (!cluster || cluster > l.cluster_max * 2)
		return CUDA_ERROR_INVALID_CLUSTER_SIZE;
	uint64_t threads = (uint64_t)config->blockDimX * config->blockDimY *
			   config->blockDimZ;
	if (threads > 1024)
		return CUDA_ERROR_INVALID_VALUE;
	uint32_t blocks = blocks_per_sm(f, (uint32_t)threads, config->sharedMemBytes);
	*numClusters = (int)((uint64_t)blocks * l.sm_count / cluster);
	return CUDA_SUCCESS;
}

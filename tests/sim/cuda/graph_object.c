/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

/* User objects: counted by the application and by the graphs that hold them. */

struct sim_user_object {
	void *what;
	CUhostFn destroy;
	uint64_t refs;
};

static CUresult object_of(CUuserObject handle, struct sim_user_object **out)
{
	if (!sim_live_is(handle, SIM_LIVE_USER_OBJECT))
		return CUDA_ERROR_INVALID_VALUE;
	*out = (struct sim_user_object *)handle;
	return CUDA_SUCCESS;
}

static void release(struct sim_user_object *o, uint64_t count)
{
	o->refs -= count < o->refs ? count : o->refs;
	if (o->refs)
		return;
	sim_live_remove(o);
	o->destroy(o->what);
	free(o);
}

static struct sim_user_ref *held(struct sim_graph *g, const struct sim_user_object *o)
{
	for (size_t i = 0; i < g->object_count; i++)
		if (g->objects[i].object == o)
			return &g->objects[i];
	return NULL;
}

static CUresult hold(struct sim_graph *g, struct sim_user_object *o, unsigned count)
{
	struct sim_user_ref *ref = held(g, o);

	if (!ref) {
		struct sim_user_ref *list = realloc(g->objects,
						    (g->object_count + 1) * sizeof *list);
		if (!list)
			return CUDA_ERROR_OUT_OF_MEMORY;
		g->objects = list;
		ref = &list[g->object_count++];
		*ref = (struct sim_user_ref){ o, 0 };
	}
	ref->count += count;
	return CUDA_SUCCESS;
}

void sim_graph_drop_objects(struct sim_graph *g)
{
	for (size_t i = 0; i < g->object_count; i++)
		release(g->objects[i].object, g->objects[i].count);
	free(g->objects);
	g->objects = NULL;
	g->object_count = 0;
}

CUresult sim_graph_copy_objects(const struct sim_graph *from, struct sim_graph *to)
{
	for (size_t i = 0; i < from->object_count; i++) {
		CUresult r = hold(to, from->objects[i].object, from->objects[i].count);
		if (r != CUDA_SUCCESS)
			return r;
		from->objects[i].object->refs += from->objects[i].count;
	}
	return CUDA_SUCCESS;
}

CUresult cuUserObjectCreate(CUuserObject *object_out, void *ptr, CUhostFn destroy,
			    unsigned int initialRefcount, unsigned int flags)
{
	SIM_ENTER();
	if (!object_out || !destroy || !initialRefcount || initialRefcount > INT32_MAX ||
	    flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
		return CUDA_ERROR_INVALID_VALUE;
	struct sim_user_object *o = malloc(sizeof *o);
	if (!o || !sim_live_add(o, SIM_LIVE_USER_OBJECT)) {
		free(o);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*o = (struct sim_user_object){ ptr, destroy, initialRefcount };
	*object_out = (CUuserObject)o;
	return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject object, unsigned int count)
{
	struct sim_user_object *o;
	SIM_ENTER();
	if (!count || count > INT32_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = object_of(object, &o);
	if (r == CUDA_SUCCESS)
		o->refs += count;
	sim_graphs_unlock();
	return r;
}

CUresult cuUserObjectRelease(CUuserObject object, unsigned int count)
{
	struct sim_user_object *o;
	SIM_ENTER();
	if (!count || count > INT32_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = object_of(object, &o);
	if (r == CUDA_SUCCESS && count > o->refs)
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS)
		release(o, count);
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count,
				 unsigned int flags)
{
	struct sim_graph *g;
	struct sim_user_object *o;
	SIM_ENTER();
	if (!count || count > INT32_MAX || flags & ~(unsigned)CU_GRAPH_USER_OBJECT_MOVE)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(graph, &g);
	if (r == CUDA_SUCCESS)
		r = object_of(object, &o);
	if (r == CUDA_SUCCESS)
		r = hold(g, o, count);
	if (r == CUDA_SUCCESS && !(flags & CU_GRAPH_USER_OBJECT_MOVE))
		o->refs += count;
	sim_graphs_unlock();
	return r;
}

CUresult cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count)
{
	struct sim_graph *g;
	struct sim_user_object *o;
	SIM_ENTER();
	if (!count || count > INT32_MAX)
		return CUDA_ERROR_INVALID_VALUE;
	sim_graphs_lock();
	CUresult r = sim_graph_of(graph, &g);
	if (r == CUDA_SUCCESS)
		r = object_of(object, &o);
	struct sim_user_ref *ref = r == CUDA_SUCCESS ? held(g, o) : NULL;
	if (r == CUDA_SUCCESS && (!ref || ref->count < count))
		r = CUDA_ERROR_INVALID_VALUE;
	if (r == CUDA_SUCCESS) {
		ref->count -= count;
		if (!ref->count)
			*ref = g->objects[--g->object_count];
		release(o, count);
	}
	sim_graphs_unlock();
	return r;
}

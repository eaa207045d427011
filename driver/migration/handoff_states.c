// SPDX-License-Identifier: LGPL-2.1-or-later
// The handoff's states: their names, the table of legal moves, and what a host may do in each.
#include "driver/migration/handoff.h"

#include <assert.h>

static const char *const role_names[] = {"source", "destination"};
static_assert(G_N_ELEMENTS(role_names) == HANDOFF_ROLES, "a name for each role");

static const char *const state_names[] = {
    "idle",     "intent",  "aborted", "released", "done",    "none",
    "prepared", "refused", "owned",   "starting", "running",
};
static_assert(G_N_ELEMENTS(state_names) == HANDOFF_STATES, "a name for each state");
static_assert(HANDOFF_SOURCE_DONE == 4 && HANDOFF_DESTINATION_NONE == 5, "the source's states come first");

#define TO(state) (1u << HANDOFF_##state)
static const guint legal_moves[] = {
    [HANDOFF_SOURCE_IDLE] = TO(SOURCE_INTENT),
    [HANDOFF_SOURCE_INTENT] = TO(SOURCE_ABORTED) | TO(SOURCE_RELEASED),
    [HANDOFF_SOURCE_ABORTED] = TO(SOURCE_RELEASED),
    [HANDOFF_SOURCE_RELEASED] = TO(SOURCE_DONE) | TO(SOURCE_ABORTED),
    [HANDOFF_SOURCE_DONE] = 0,
    [HANDOFF_DESTINATION_NONE] = TO(DESTINATION_PREPARED),
    [HANDOFF_DESTINATION_PREPARED] = TO(DESTINATION_REFUSED) | TO(DESTINATION_OWNED),
    [HANDOFF_DESTINATION_REFUSED] = 0,
    [HANDOFF_DESTINATION_OWNED] = TO(DESTINATION_STARTING) | TO(DESTINATION_REFUSED),
    [HANDOFF_DESTINATION_STARTING] = TO(DESTINATION_RUNNING),
    [HANDOFF_DESTINATION_RUNNING] = 0,
};
static_assert(G_N_ELEMENTS(legal_moves) == HANDOFF_STATES, "moves of each state");

const char *
handoff_role_name(HandoffRole role)
{
    g_return_val_if_fail((guint) role < HANDOFF_ROLES, "?");
    return role_names[role];
}

const char *
handoff_state_name(HandoffState state)
{
    g_return_val_if_fail((guint) state < HANDOFF_STATES, "?");
    return state_names[state];
}

gboolean
handoff_legal(HandoffState from, HandoffState to)
{
    if ((guint) from >= HANDOFF_STATES || (guint) to >= HANDOFF_STATES)
        return FALSE;
    return (legal_moves[from] & (1u << to)) != 0;
}

gboolean
handoff_owns_disk(HandoffState state)
{
    switch (state) {
    case HANDOFF_SOURCE_IDLE:
    case HANDOFF_SOURCE_INTENT:
    case HANDOFF_SOURCE_ABORTED:
    case HANDOFF_DESTINATION_OWNED:
    case HANDOFF_DESTINATION_STARTING:
    case HANDOFF_DESTINATION_RUNNING:
        return TRUE;
    case HANDOFF_SOURCE_RELEASED:
    case HANDOFF_SOURCE_DONE:
    case HANDOFF_DESTINATION_NONE:
    case HANDOFF_DESTINATION_PREPARED:
    case HANDOFF_DESTINATION_REFUSED:
    case HANDOFF_STATES:
        break;
    }
    return FALSE;
}

gboolean
handoff_is_end(HandoffState state)
{
    return state == HANDOFF_SOURCE_ABORTED || state == HANDOFF_SOURCE_DONE ||
           state == HANDOFF_DESTINATION_REFUSED || state == HANDOFF_DESTINATION_RUNNING;
}

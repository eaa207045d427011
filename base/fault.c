// SPDX-License-Identifier: LGPL-2.1-or-later
// Crash points, driven by QUASAR_FAULT.
#include "base/fault.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

#define HOLD_LIMIT_US (60 * G_USEC_PER_SEC)

// The action configured for a stage, or NULL. Caller frees.
static char *
action_for(const char *spec, const char *stage)
{
    g_autofree char *text = NULL;
    if (spec[0] != '@')
        text = g_strdup(spec);
    else if (!g_file_get_contents(spec + 1, &text, NULL, NULL))
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *colon = strchr(*line, ':');
        if (colon && strlen(stage) == (size_t) (colon - *line) && strncmp(*line, stage, colon - *line) == 0)
            return g_strdup(g_strstrip(colon + 1));
    }
    return NULL;
}

static void
hold(const char *spec, const char *stage)
{
    g_autofree char *held =
        spec[0] == '@' ? g_strconcat(spec + 1, ".held", NULL) : g_strdup("/run/quasar-fault.held");
    if (!g_file_set_contents(held, stage, -1, NULL))
        return;
    gint64 end = g_get_monotonic_time() + HOLD_LIMIT_US;
    while (g_file_test(held, G_FILE_TEST_EXISTS) && g_get_monotonic_time() < end)
        g_usleep(2000);
}

gboolean
fault_point(const char *stage, GError **error)
{
    const char *spec = g_getenv("QUASAR_FAULT");
    if (!spec)
        return TRUE;
    g_autofree char *action = action_for(spec, stage);
    if (!action)
        return TRUE;
    g_warning("crash point %s: %s", stage, action);
    if (g_str_equal(action, "kill"))
        kill(getpid(), SIGKILL);
    else if (g_str_equal(action, "hold"))
        hold(spec, stage);
    else if (g_str_equal(action, "fail"))
        quasar_set_error(error, VIR_ERR_OPERATION_FAILED, "crash point %s says fail", stage);
    return !g_str_equal(action, "fail");
}

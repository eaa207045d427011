// SPDX-License-Identifier: LGPL-2.1-or-later
// The two configuration files, virtquasard.conf and quasar.conf, in libvirt's syntax.
#pragma once

#include <glib.h>

// Immutable once loaded; shared by threads.
typedef struct Config Config;

// An empty configuration: every key has its default.
Config *config_new(void);
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

// Adds the keys of `path`: lines `key = "string"`, `key = 12`, `key = [ "a", "b" ]`, and comments from '#'.
// With `optional` a file that is absent is no error. A key given twice is replaced by the later one.
// VIR_ERR_CONF_SYNTAX names file and line; nothing was added then.
gboolean config_load(Config *config, const char *path, gboolean optional, GError **error);

// As config_load() of a text; `name` is what errors call it.
gboolean config_parse(Config *config, const char *name, const char *text, GError **error);

// A key that is absent leaves *value as it is. VIR_ERR_CONF_SYNTAX when the value has another type. Values
// are borrowed.
gboolean config_string(const Config *config, const char *key, const char **value, GError **error);
gboolean config_number(const Config *config, const char *key, gint64 *value, GError **error);
// NULL-terminated.
gboolean config_list(const Config *config, const char *key, const char *const **value, GError **error);

// SPDX-License-Identifier: LGPL-2.1-or-later
// Notes in a definition: changed in a copy, which is read again before it counts.
#include "driver/metadata.h"

#include <string.h>

#include "base/error.h"
#include "driver/store.h"
#include "xml/metadata.h"

typedef struct {
    int type;
    const char *text, *key, *uri;
} Note;

static gboolean
check(const Note *note, unsigned int flags, GError **error)
{
    if (flags & ~(unsigned int) (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG))
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "unsupported flags (0x%x) in function virDomainSetMetadata", flags);
    else if (note->type < VIR_DOMAIN_METADATA_DESCRIPTION || note->type > VIR_DOMAIN_METADATA_ELEMENT)
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "unknown metadata type '%d'", note->type);
    else if (note->type == VIR_DOMAIN_METADATA_TITLE && note->text && strchr(note->text, '\n'))
        quasar_set_error(error, VIR_ERR_INVALID_ARG, "a domain's title cannot have more than one line");
    else if (note->type == VIR_DOMAIN_METADATA_ELEMENT && (!note->uri || (note->text && !note->key)))
        quasar_set_error(error, VIR_ERR_INVALID_ARG,
                         "an element of metadata needs its namespace and a prefix");
    else
        return TRUE;
    return FALSE;
}

static void
replace(char **field, const char *text)
{
    g_free(*field);
    *field = text && *text ? g_strdup(text) : NULL;
}

// A copy of the definition with the note; NULL: an error. Read again, as a restart would.
static DomainDef *
with_note(const DomainDef *def, const Note *note, GError **error)
{
    g_autoptr(DomainDef) copy = domain_def_copy(def);
    if (note->type == VIR_DOMAIN_METADATA_DESCRIPTION)
        replace(&copy->description, note->text);
    else if (note->type == VIR_DOMAIN_METADATA_TITLE)
        replace(&copy->title, note->text);
    char *metadata = NULL;
    if (note->type == VIR_DOMAIN_METADATA_ELEMENT) {
        if (!metadata_replace(copy->metadata, note->uri, note->key, note->text, &metadata, error))
            return NULL;
        g_free(copy->metadata);
        copy->metadata = metadata;
    }
    g_autofree char *xml = domain_def_format(copy, DOMAIN_FORMAT_INACTIVE | DOMAIN_FORMAT_SECURE, -1);
    g_autoptr(DomainDef) again = domain_def_parse(xml, error);
    return again ? g_steal_pointer(&copy) : NULL;
}

// With the job. The running guest's definition keeps its place: others have borrowed it.
static gboolean
note_live(Domain *domain, const Note *note, GError **error)
{
    g_autoptr(DomainDef) noted = with_note(domain->live, note, error);
    if (!noted)
        return FALSE;
    replace(&domain->live->title, noted->title);
    replace(&domain->live->description, noted->description);
    replace(&domain->live->metadata, noted->metadata);
    return store_save_status(domain, error);
}

static gboolean
note_persistent(Domain *domain, const Note *note, GError **error)
{
    DomainDef *noted = with_note(domain->persistent, note, error);
    return noted && store_define(domain, noted, error);
}

static gboolean
set_locked(Domain *domain, const Note *note, unsigned int flags, GError **error)
{
    const gboolean active = domain_is_active(domain);
    const gboolean live = (flags & VIR_DOMAIN_AFFECT_LIVE) || (!flags && active);
    const gboolean config = (flags & VIR_DOMAIN_AFFECT_CONFIG) || (!flags && !active);
    if (live && !domain_check_active(domain, error))
        return FALSE;
    if (config && !domain->persistent) {
        quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                         "transient domains do not have any persistent config");
        return FALSE;
    }
    return (!config || note_persistent(domain, note, error)) && (!live || note_live(domain, note, error));
}

gboolean
metadata_set(Domain *domain, int type, const char *text, const char *key, const char *uri, unsigned int flags,
             GError **error)
{
    const Note note = {.type = type, .text = text, .key = key, .uri = uri};
    if (!check(&note, flags, error))
        return FALSE;
    domain_lock(domain);
    gboolean ok = job_begin(domain, JOB_MODIFY, error);
    if (ok) {
        ok = set_locked(domain, &note, flags, error);
        job_end(domain);
    }
    if (ok) {
        DomainEvent event;
        domain_event_init(domain, &event, VIR_DOMAIN_EVENT_ID_METADATA_CHANGE);
        event.type = type;
        event.path = type == VIR_DOMAIN_METADATA_ELEMENT ? uri : NULL;
        event_bus_emit(domain->driver->events, &event);
    }
    domain_unlock(domain);
    return ok;
}

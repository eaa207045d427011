// SPDX-License-Identifier: LGPL-2.1-or-later
// The files of managed saves.
#include "driver/save/managed.h"

#include "base/error.h"
#include "base/file.h"
#include "driver/domains.h"
#include "driver/migration/anchor_away.h"
#include "driver/save/restore.h"

static char *
directory_of(const Driver *driver)
{
    return g_build_filename(driver->state_dir, "save", NULL);
}

char *
managed_save_path(const Domain *domain)
{
    g_autofree char *directory = directory_of(domain->driver);
    return g_strdup_printf("%s/%s.save", directory, domain->name);
}

char *
managed_save_prepare(const Domain *domain, GError **error)
{
    g_autofree char *directory = directory_of(domain->driver);
    return file_make_directory(directory, 0700, error) ? managed_save_path(domain) : NULL;
}

gboolean
managed_save_remove(Domain *domain, GError **error)
{
    g_autofree char *path = managed_save_path(domain);
    if (!file_remove(path, error))
        return FALSE;
    domain_lock(domain);
    domain->managed_save = FALSE;
    domain_unlock(domain);
    return TRUE;
}

gboolean
managed_save_drop(Domain *domain, guint flags, GError **error)
{
    if (flags)
        return quasar_set_error(error, VIR_ERR_INVALID_ARG,
                                "unsupported flags (0x%x) in function virDomainManagedSaveRemove", flags);
    domain_lock(domain);
    if (!job_begin(domain, JOB_MODIFY, error)) {
        domain_unlock(domain);
        return FALSE;
    }
    const gboolean ends = domain->managed_save && !domain_is_active(domain);
    domain_unlock(domain);
    gboolean ok = managed_save_remove(domain, error);
    g_autofree char *uuid = domain_uuid_format(domain->uuid);
    if (ok && ends)
        anchor_away_end_saved(domain->driver, uuid);
    domain_lock(domain);
    job_end(domain);
    domain_unlock(domain);
    return ok;
}

// Locked.
static gboolean
check_there(const Domain *domain, GError **error)
{
    return domain->managed_save ||
           quasar_set_error(error, VIR_ERR_OPERATION_INVALID,
                            "domain '%s' does not have a managed save image", domain->name);
}

char *
managed_save_describe(Domain *domain, GError **error)
{
    g_autofree char *path = managed_save_path(domain);
    domain_lock(domain);
    gboolean there = check_there(domain, error);
    domain_unlock(domain);
    return there ? restore_describe(path, error) : NULL;
}

// With the job, so that nobody starts from it meanwhile.
gboolean
managed_save_redefine(Domain *domain, const char *xml, guint flags, GError **error)
{
    g_autofree char *path = managed_save_path(domain);
    domain_lock(domain);
    if (!job_begin(domain, JOB_MODIFY, error)) {
        domain_unlock(domain);
        return FALSE;
    }
    gboolean ok = check_there(domain, error);
    domain_unlock(domain);
    ok = ok && restore_redefine(domain->driver, path, xml, flags, error);
    domain_lock(domain);
    job_end(domain);
    domain_unlock(domain);
    return ok;
}

void
managed_save_scan(Driver *driver)
{
    g_autoptr(GPtrArray) all = domain_list_filter(driver->domains, 0);
    for (guint i = 0; i < all->len; i++) {
        Domain *domain = g_ptr_array_index(all, i);
        g_autofree char *path = managed_save_path(domain);
        const gboolean there = g_file_test(path, G_FILE_TEST_EXISTS);
        domain_lock(domain);
        domain->managed_save = there;
        domain_unlock(domain);
    }
}

// SPDX-License-Identifier: LGPL-2.1-or-later
// What users do with a domain: define, start, stop, pause, resume, reset.
#pragma once

#include "driver/domain.h"

// Each of these is an entry point: flags, job, active check, act, end. They are called with a reference that
// the caller holds (from domain_list_by_*), without the lock, on a thread that may block. Flags that are not
// known are VIR_ERR_INVALID_ARG.

// Parses and stores a definition; replaces the domain's persistent definition if name and UUID agree. Nothing
// changes on disk when it fails. flags: VIR_DOMAIN_DEFINE_VALIDATE. Returns a reference.
Domain *lifecycle_define(Driver *driver, const char *xml, unsigned int flags, GError **error);

// Creates a transient domain and starts it. flags as lifecycle_start().
Domain *lifecycle_create_xml(Driver *driver, const char *xml, unsigned int flags, gconstpointer owner,
                             GError **error);

// flags: virDomainUndefineFlagsValues (those about state that cannot exist yet are accepted). A managed save
// goes with VIR_DOMAIN_UNDEFINE_MANAGED_SAVE; without, VIR_ERR_OPERATION_INVALID.
gboolean lifecycle_undefine(Domain *domain, unsigned int flags, GError **error);

// flags: VIR_DOMAIN_START_PAUSED, _BYPASS_CACHE, _FORCE_BOOT, _VALIDATE, _AUTODESTROY: it ends when
// lifecycle_owner_gone() is told of `owner`, whose connection starts it. A managed save is restored, and
// removed once it runs; with _FORCE_BOOT it is only removed.
gboolean lifecycle_start(Domain *domain, unsigned int flags, gconstpointer owner, GError **error);

// The connection has ended: so do the guests that were to. Does not block.
void lifecycle_owner_gone(Driver *driver, gconstpointer owner);

// flags: VIR_DOMAIN_DESTROY_GRACEFUL (SIGTERM only).
gboolean lifecycle_destroy(Domain *domain, unsigned int flags, GError **error);

// By ACPI; returns when it was asked for. flags: DEFAULT, ACPI_POWER_BTN; others
// VIR_ERR_ARGUMENT_UNSUPPORTED.
gboolean lifecycle_shutdown(Domain *domain, unsigned int flags, GError **error);
gboolean lifecycle_reboot(Domain *domain, unsigned int flags, GError **error);

gboolean lifecycle_reset(Domain *domain, unsigned int flags, GError **error);
gboolean lifecycle_suspend(Domain *domain, GError **error);
gboolean lifecycle_resume(Domain *domain, GError **error);
gboolean lifecycle_set_autostart(Domain *domain, gboolean autostart, GError **error);

// Starts what has an autostart link and is not running; failures are logged.
void lifecycle_autostart(Driver *driver);

// The guest has powered off, or rebooted where <on_reboot> says destroy: ends its emulator, resets it (a
// reboot that was asked through ACPI, <on_poweroff> restart) or leaves it as it stands (preserve). Deferred
// worker.
void lifecycle_guest_shut_down(Domain *domain);
// The guest has panicked: as <on_crash> says. Deferred worker.
void lifecycle_guest_crashed(Domain *domain);

// Called on a deferred worker when the emulator of run `generation` has ended.
void lifecycle_emulator_ended(Domain *domain, guint64 generation);

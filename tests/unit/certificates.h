// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: an authority, its certificates and its revocations, as PEM files in a directory.
#pragma once

#include "base/tls.h"

typedef struct Authority Authority;

typedef struct CertificateSpec {
    const char *cn;      // NULL: the file's name
    const char *host;    // a DNS name, or NULL
    const char *address; // an IPv4 address, or NULL
    const char *purpose; // an extended key usage, or NULL: any
    int begins, ends;    // seconds from now; both 0: an hour ago, and in an hour
} CertificateSpec;

// Writes DIRECTORY/cacert.pem.
Authority *authority_new(const char *directory, const char *name);
void authority_free(Authority *authority);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Authority, authority_free)

// Writes DIRECTORY/NAMEcert.pem and NAMEkey.pem: O=Quasar tests,CN=...
void authority_issue(Authority *authority, const char *name, const CertificateSpec *spec);

// Writes DIRECTORY/cacrl.pem, which revokes the certificate issued last.
void authority_revoke_last(Authority *authority);

// What somebody loads who trusts `directory`'s authority and shows the certificate NAME of `owner`'s.
TlsCredentials *certificates_load(const char *directory, const char *owner, const char *name);

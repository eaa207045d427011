// SPDX-License-Identifier: LGPL-2.1-or-later
// For tests: an authority, its certificates and its revocations, as PEM files in a directory.
#include "tests/unit/certificates.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

struct Authority {
    char *directory;
    gnutls_x509_crt_t certificate, last;
    gnutls_x509_privkey_t key;
    guint8 serial;
};

static void
check(int code)
{
    if (code < 0)
        g_error("certificates: %s", gnutls_strerror(code));
}

static void
write_pem(const char *directory, const char *file, gnutls_datum_t *pem)
{
    g_autofree char *path = g_build_filename(directory, file, NULL);
    g_autoptr(GError) error = NULL;
    g_file_set_contents(path, (const char *) pem->data, (gssize) pem->size, &error);
    g_assert_no_error(error);
    gnutls_free(pem->data);
}

static gnutls_x509_privkey_t
new_key(void)
{
    gnutls_x509_privkey_t key;
    check(gnutls_x509_privkey_init(&key));
    check(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
                                       0));
    return key;
}

static gnutls_x509_crt_t
new_certificate(gnutls_x509_privkey_t key, const char *cn, guint8 serial, int begins, int ends)
{
    gnutls_x509_crt_t crt;
    check(gnutls_x509_crt_init(&crt));
    check(gnutls_x509_crt_set_version(crt, 3));
    check(gnutls_x509_crt_set_serial(crt, &serial, 1));
    check(gnutls_x509_crt_set_key(crt, key));
    check(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_ORGANIZATION_NAME, 0, "Quasar tests", 12));
    check(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn, (unsigned) strlen(cn)));
    check(gnutls_x509_crt_set_activation_time(crt, time(NULL) + begins));
    check(gnutls_x509_crt_set_expiration_time(crt, time(NULL) + ends));
    return crt;
}

Authority *
authority_new(const char *directory, const char *name)
{
    Authority *authority = g_new0(Authority, 1);
    gnutls_datum_t pem;
    authority->directory = g_strdup(directory);
    authority->serial = 1;
    authority->key = new_key();
    authority->certificate = new_certificate(authority->key, name, authority->serial, -7200, 7200);
    check(gnutls_x509_crt_set_basic_constraints(authority->certificate, 1, -1));
    check(gnutls_x509_crt_set_key_usage(authority->certificate,
                                        GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
    check(gnutls_x509_crt_sign2(authority->certificate, authority->certificate, authority->key,
                                GNUTLS_DIG_SHA256, 0));
    check(gnutls_x509_crt_export2(authority->certificate, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(directory, "cacert.pem", &pem);
    return authority;
}

void
authority_free(Authority *authority)
{
    if (authority->last)
        gnutls_x509_crt_deinit(authority->last);
    gnutls_x509_crt_deinit(authority->certificate);
    gnutls_x509_privkey_deinit(authority->key);
    g_free(authority->directory);
    g_free(authority);
}

static void
add_names(gnutls_x509_crt_t crt, const CertificateSpec *spec)
{
    struct in_addr address;
    if (spec->host)
        check(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, spec->host,
                                                   (unsigned) strlen(spec->host), GNUTLS_FSAN_SET));
    if (spec->address) {
        g_assert_cmpint(inet_pton(AF_INET, spec->address, &address), ==, 1);
        check(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, &address, sizeof(address),
                                                   GNUTLS_FSAN_APPEND));
    }
    if (spec->purpose)
        check(gnutls_x509_crt_set_key_purpose_oid(crt, spec->purpose, 0));
}

void
authority_issue(Authority *authority, const char *name, const CertificateSpec *spec)
{
    gboolean usual = !spec->begins && !spec->ends;
    g_autofree char *certificate_file = g_strdup_printf("%scert.pem", name);
    g_autofree char *key_file = g_strdup_printf("%skey.pem", name);
    gnutls_datum_t pem;
    gnutls_x509_privkey_t key = new_key();
    gnutls_x509_crt_t crt = new_certificate(key, spec->cn ? spec->cn : name, ++authority->serial,
                                            usual ? -3600 : spec->begins, usual ? 3600 : spec->ends);
    check(gnutls_x509_crt_set_basic_constraints(crt, 0, -1));
    add_names(crt, spec);
    check(gnutls_x509_crt_sign2(crt, authority->certificate, authority->key, GNUTLS_DIG_SHA256, 0));
    check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(authority->directory, certificate_file, &pem);
    check(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(authority->directory, key_file, &pem);
    gnutls_x509_privkey_deinit(key);
    if (authority->last)
        gnutls_x509_crt_deinit(authority->last);
    authority->last = crt;
}

void
authority_revoke_last(Authority *authority)
{
    gnutls_x509_crl_t crl;
    gnutls_datum_t pem;
    guint8 number = 1;
    check(gnutls_x509_crl_init(&crl));
    check(gnutls_x509_crl_set_version(crl, 2));
    check(gnutls_x509_crl_set_number(crl, &number, 1));
    check(gnutls_x509_crl_set_this_update(crl, time(NULL) - 3600));
    check(gnutls_x509_crl_set_next_update(crl, time(NULL) + 3600));
    check(gnutls_x509_crl_set_crt(crl, authority->last, time(NULL) - 3600));
    check(gnutls_x509_crl_sign2(crl, authority->certificate, authority->key, GNUTLS_DIG_SHA256, 0));
    check(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(authority->directory, "cacrl.pem", &pem);
    gnutls_x509_crl_deinit(crl);
}

TlsCredentials *
certificates_load(const char *directory, const char *owner, const char *name)
{
    g_autofree char *ca = g_build_filename(directory, "cacert.pem", NULL);
    g_autofree char *crl = g_build_filename(directory, "cacrl.pem", NULL);
    g_autofree char *certificate = g_strdup_printf("%s/%scert.pem", owner, name);
    g_autofree char *key = g_strdup_printf("%s/%skey.pem", owner, name);
    g_autoptr(GError) error = NULL;
    TlsCredentials *credentials = tls_credentials_load(ca, crl, certificate, key, &error);
    g_assert_no_error(error);
    return credentials;
}

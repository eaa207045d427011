// SPDX-License-Identifier: LGPL-2.1-or-later
// base/tls: two sessions over a socket pair, with certificates as they should and as they should not be.
#include <gnutls/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/channel.h"
#include "base/error.h"
#include "tests/unit/certificates.h"
#include "tests/unit/files.h"

static char *here, *elsewhere; // two authorities' directories
static Authority *authority;

static int
make_certificates(void **state)
{
    here = test_directory_new();
    elsewhere = test_directory_new();
    g_autoptr(Authority) other = authority_new(elsewhere, "other authority");
    authority_issue(other, "stranger", &(CertificateSpec){.host = "hostB"});
    authority = authority_new(here, "authority");
    authority_issue(authority, "server", &(CertificateSpec){.host = "hostB", .address = "10.77.0.2"});
    authority_issue(authority, "client", &(CertificateSpec){.cn = "hostA"});
    authority_issue(authority, "expired", &(CertificateSpec){.host = "hostB", .begins = -7000, .ends = -60});
    authority_issue(authority, "future", &(CertificateSpec){.host = "hostB", .begins = 3600, .ends = 7000});
    authority_issue(authority, "only-client",
                    &(CertificateSpec){.host = "hostB", .purpose = GNUTLS_KP_TLS_WWW_CLIENT});
    authority_issue(authority, "only-server",
                    &(CertificateSpec){.host = "hostB", .purpose = GNUTLS_KP_TLS_WWW_SERVER});
    authority_issue(authority, "revoked", &(CertificateSpec){.host = "hostB"});
    authority_revoke_last(authority);
    return 0;
}

static int
remove_certificates(void **state)
{
    authority_free(authority);
    test_directory_free(here);
    test_directory_free(elsewhere);
    return 0;
}

typedef struct {
    int fds[2];
    TlsSession *client, *server;
    TlsStatus client_status, server_status;
} Pair;

static void
pair_clear(Pair *pair)
{
    tls_session_free(pair->client);
    tls_session_free(pair->server);
    for (int i = 0; i < 2; i++)
        if (pair->fds[i] >= 0)
            close(pair->fds[i]);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pair, pair_clear)

// Both sides of a handshake, step by step in one thread.
static void
pair_open(Pair *pair, TlsCredentials *client, TlsCredentials *server, const char *const *client_alpn,
          const char *const *server_alpn)
{
    assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair->fds), 0);
    pair->client = tls_session_new(client, FALSE, pair->fds[0], client_alpn);
    pair->server = tls_session_new(server, TRUE, pair->fds[1], server_alpn);
    pair->client_status = pair->server_status = TLS_WANT_READ;
    for (int turns = 0; turns < 50; turns++) {
        if (pair->client_status == TLS_WANT_READ || pair->client_status == TLS_WANT_WRITE)
            pair->client_status = tls_session_handshake(pair->client, NULL);
        if (pair->server_status == TLS_WANT_READ || pair->server_status == TLS_WANT_WRITE)
            pair->server_status = tls_session_handshake(pair->server, NULL);
    }
}

static void
open_named(Pair *pair, const char *client, const char *server)
{
    g_autoptr(TlsCredentials) ours = certificates_load(here, here, client);
    g_autoptr(TlsCredentials) theirs = certificates_load(here, here, server);
    pair_open(pair, ours, theirs, NULL, NULL);
    assert_int_equal(pair->client_status, TLS_DONE);
    assert_int_equal(pair->server_status, TLS_DONE);
}

static void
read_exactly(TlsSession *session, char *data, gsize length)
{
    gsize have = 0, done = 0;
    while (have < length) {
        assert_int_equal(tls_session_read(session, data + have, length - have, &done, NULL), TLS_DONE);
        assert_true(done > 0);
        have += done;
    }
}

static void
both_know_each_other(void **state)
{
    g_auto(Pair) pair = {{-1, -1}};
    g_autoptr(TlsCredentials) server = certificates_load(here, here, "server");
    guint8 own[32], seen[32];
    char text[5];
    gsize done = 0;
    open_named(&pair, "client", "server");
    assert_true(tls_session_verify(pair.client, "hostB", NULL));
    assert_true(tls_session_verify(pair.client, "10.77.0.2", NULL));
    assert_true(tls_session_verify(pair.server, NULL, NULL));
    g_autofree char *dn = tls_session_peer_dn(pair.server);
    assert_string_equal(dn, "O=Quasar tests,CN=hostA");
    tls_credentials_sha256(server, own);
    assert_true(tls_session_peer_sha256(pair.client, seen));
    assert_memory_equal(own, seen, sizeof(own));
    assert_null(tls_session_alpn(pair.server));

    assert_int_equal(tls_session_write(pair.client, "hello", 5, &done, NULL), TLS_DONE);
    assert_int_equal(done, 5);
    read_exactly(pair.server, text, 2);
    assert_int_equal(tls_session_pending(pair.server), 3); // where poll() would not see it
    read_exactly(pair.server, text + 2, 3);
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(tls_session_read(pair.server, text, 5, &done, NULL), TLS_WANT_READ);
}

static void
assert_server_refused(const char *certificate, const char *host, const char *reason)
{
    g_auto(Pair) pair = {{-1, -1}};
    g_autoptr(GError) error = NULL;
    open_named(&pair, "client", certificate);
    assert_false(tls_session_verify(pair.client, host, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    if (!strstr(error->message, reason))
        fail_msg("%s with %s: %s", certificate, host, error->message);
}

static void
bad_certificates_are_refused(void **state)
{
    assert_server_refused("server", "hostC", "name");
    assert_server_refused("server", "10.77.0.3", "name");
    assert_server_refused("client", "hostB", "name");
    assert_server_refused("expired", "hostB", "expired");
    assert_server_refused("future", "hostB", "not yet valid");
    assert_server_refused("revoked", "hostB", "revoked");
    assert_server_refused("only-client", "hostB", "purpose");
    g_auto(Pair) pair = {{-1, -1}};
    open_named(&pair, "only-server", "only-server");
    assert_true(tls_session_verify(pair.client, "hostB", NULL));
    assert_false(tls_session_verify(pair.server, NULL, NULL));
}

static void
foreign_authority_is_refused(void **state)
{
    g_auto(Pair) pair = {{-1, -1}};
    g_autoptr(GError) error = NULL;
    g_autoptr(TlsCredentials) server = certificates_load(here, here, "server");
    g_autoptr(TlsCredentials) stranger = certificates_load(here, elsewhere, "stranger");
    pair_open(&pair, stranger, server, NULL, NULL);
    // GnuTLS's clients may keep back a certificate of an authority that the server does not name.
    if (pair.server_status == TLS_DONE) {
        assert_false(tls_session_verify(pair.server, NULL, &error));
        assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
    } else {
        assert_int_equal(pair.server_status, TLS_FAILED);
    }
}

static void
refusal_reaches_the_peer(void **state)
{
    g_auto(Pair) pair = {{-1, -1}};
    g_autoptr(GError) error = NULL;
    char byte;
    gsize done = 0;
    open_named(&pair, "client", "server");
    tls_session_refuse(pair.server);
    assert_int_equal(tls_session_read(pair.client, &byte, 1, &done, &error), TLS_FAILED);
    assert_non_null(strstr(error->message, "denied"));
}

static void
protocols_are_agreed(void **state)
{
    const char *const ours[] = {"quasar-peer/1", NULL}, *const others[] = {"quasar-peer/9", NULL};
    g_autoptr(TlsCredentials) client = certificates_load(here, here, "client");
    g_autoptr(TlsCredentials) server = certificates_load(here, here, "server");
    g_auto(Pair) agreed = {{-1, -1}};
    g_auto(Pair) silent = {{-1, -1}};
    g_auto(Pair) apart = {{-1, -1}};
    pair_open(&agreed, client, server, ours, ours);
    assert_string_equal(tls_session_alpn(agreed.server), "quasar-peer/1");
    assert_string_equal(tls_session_alpn(agreed.client), "quasar-peer/1");
    pair_open(&silent, client, server, NULL, ours);
    assert_int_equal(silent.server_status, TLS_DONE);
    assert_null(tls_session_alpn(silent.server));
    pair_open(&apart, client, server, others, ours);
    assert_true(apart.server_status == TLS_FAILED || !tls_session_alpn(apart.server));
}

static void
ends_in_order_and_cut(void **state)
{
    g_auto(Pair) orderly = {{-1, -1}};
    g_auto(Pair) cut = {{-1, -1}};
    g_autoptr(GError) error = NULL;
    char byte;
    gsize done = 1;
    open_named(&orderly, "client", "server");
    tls_session_bye(orderly.client);
    assert_int_equal(tls_session_read(orderly.server, &byte, 1, &done, NULL), TLS_DONE);
    assert_int_equal(done, 0);
    open_named(&cut, "client", "server");
    close(cut.fds[0]);
    cut.fds[0] = -1;
    assert_int_equal(tls_session_read(cut.server, &byte, 1, &done, &error), TLS_FAILED);
    assert_int_equal(quasar_error_code(error), VIR_ERR_RPC);
}

static void
a_full_socket_asks_to_wait(void **state)
{
    g_auto(Pair) pair = {{-1, -1}};
    g_autofree char *block = g_malloc0(16384);
    gsize done = 0, sent = 0, received = 0;
    TlsStatus status;
    open_named(&pair, "client", "server");
    while ((status = tls_session_write(pair.client, block, 16384, &done, NULL)) == TLS_DONE)
        sent += done;
    assert_int_equal(status, TLS_WANT_WRITE);
    // The write that could not be finished goes on with the same bytes.
    while (received < sent + 16384) {
        if (tls_session_read(pair.server, block, 16384, &done, NULL) == TLS_DONE) {
            received += done;
        } else {
            assert_int_equal(tls_session_write(pair.client, block, 16384, &done, NULL), TLS_DONE);
            assert_int_equal(done, 16384);
        }
    }
}

static void
assert_not_loaded(const char *ca, const char *crl, const char *certificate, const char *key,
                  const char *named)
{
    g_autofree char *ca_path = g_build_filename(here, ca, NULL);
    g_autofree char *crl_path = crl ? g_build_filename(here, crl, NULL) : NULL;
    g_autofree char *certificate_path = g_build_filename(here, certificate, NULL);
    g_autofree char *key_path = g_build_filename(here, key, NULL);
    g_autoptr(GError) error = NULL;
    assert_null(tls_credentials_load(ca_path, crl_path, certificate_path, key_path, &error));
    assert_int_equal(quasar_error_code(error), VIR_ERR_SYSTEM_ERROR);
    assert_non_null(strstr(error->message, named));
}

static void
wrong_files_are_named(void **state)
{
    g_autofree char *rubbish = g_build_filename(here, "rubbish.pem", NULL);
    assert_true(g_file_set_contents(rubbish, "no PEM", -1, NULL));
    assert_not_loaded("none.pem", NULL, "servercert.pem", "serverkey.pem", "none.pem");
    assert_not_loaded("cacert.pem", NULL, "none.pem", "serverkey.pem", "none.pem");
    assert_not_loaded("cacert.pem", NULL, "servercert.pem", "none.pem", "none.pem");
    assert_not_loaded("rubbish.pem", NULL, "servercert.pem", "serverkey.pem", "rubbish.pem");
    assert_not_loaded("cacert.pem", "rubbish.pem", "servercert.pem", "serverkey.pem", "rubbish.pem");
    assert_not_loaded("cacert.pem", NULL, "rubbish.pem", "serverkey.pem", "rubbish.pem");
    // A key that is not the certificate's.
    assert_not_loaded("cacert.pem", NULL, "servercert.pem", "clientkey.pem", "clientkey.pem");
}

static gboolean
open_keys(Pair *pair, guint8 ours, guint8 theirs)
{
    const guint8 one[TLS_KEY] = {ours}, other[TLS_KEY] = {theirs};
    g_autoptr(TlsCredentials) client = tls_credentials_new_key(one);
    g_autoptr(TlsCredentials) server = tls_credentials_new_key(other);
    pair_open(pair, client, server, NULL, NULL);
    return pair->client_status == TLS_DONE && pair->server_status == TLS_DONE;
}

static void
a_shared_key_makes_a_session(void **state)
{
    g_auto(Pair) pair = {{-1, -1}}, wrong = {{-1, -1}};
    char text[5];
    gsize done = 0;
    assert_true(open_keys(&pair, 1, 1));
    assert_int_equal(tls_session_write(pair.server, "hello", 5, &done, NULL), TLS_DONE);
    read_exactly(pair.client, text, 5);
    assert_memory_equal(text, "hello", 5);
    assert_false(open_keys(&wrong, 1, 2));
    assert_int_equal(wrong.server_status, TLS_FAILED);
}

static gpointer
end_session(gpointer channel)
{
    return GINT_TO_POINTER(channel_end_tls(channel, 5000, NULL));
}

// A session with certificates gives both sides a key, and its socket to a session with that key.
static void
a_session_gives_way_to_another(void **state)
{
    g_auto(Pair) pair = {{-1, -1}};
    guint8 ours[TLS_KEY], theirs[TLS_KEY], other[TLS_KEY];
    open_named(&pair, "client", "server");
    assert_true(tls_session_export_key(pair.client, "EXPORTER-test", ours, NULL));
    assert_true(tls_session_export_key(pair.server, "EXPORTER-test", theirs, NULL));
    assert_true(tls_session_export_key(pair.server, "EXPORTER-other", other, NULL));
    assert_memory_equal(ours, theirs, TLS_KEY);
    assert_memory_not_equal(ours, other, TLS_KEY);

    Channel *client = channel_new(pair.fds[0], g_steal_pointer(&pair.client));
    Channel *server = channel_new(pair.fds[1], g_steal_pointer(&pair.server));
    GThread *thread = g_thread_new("server", end_session, server);
    assert_int_equal(channel_end_tls(client, 5000, NULL), pair.fds[0]);
    assert_int_equal(GPOINTER_TO_INT(g_thread_join(thread)), pair.fds[1]);
    char byte;
    assert_int_equal(recv(pair.fds[0], &byte, 1, MSG_DONTWAIT), -1); // nothing is left of it
    assert_int_equal(recv(pair.fds[1], &byte, 1, MSG_DONTWAIT), -1);
}

static void
a_session_that_goes_on_does_not_give_way(void **state)
{
    g_auto(Pair) pair = {{-1, -1}};
    g_autoptr(GError) error = NULL;
    gsize done;
    open_named(&pair, "client", "server");
    assert_int_equal(tls_session_write(pair.server, "more", 4, &done, NULL), TLS_DONE);
    assert_int_equal(channel_end_tls(channel_new(pair.fds[0], g_steal_pointer(&pair.client)), 1000, &error),
                     -1);
    pair.fds[0] = -1;
    assert_non_null(strstr(error->message, "goes on"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_know_each_other),
        cmocka_unit_test(bad_certificates_are_refused),
        cmocka_unit_test(foreign_authority_is_refused),
        cmocka_unit_test(refusal_reaches_the_peer),
        cmocka_unit_test(protocols_are_agreed),
        cmocka_unit_test(ends_in_order_and_cut),
        cmocka_unit_test(a_full_socket_asks_to_wait),
        cmocka_unit_test(wrong_files_are_named),
        cmocka_unit_test(a_shared_key_makes_a_session),
        cmocka_unit_test(a_session_gives_way_to_another),
        cmocka_unit_test(a_session_that_goes_on_does_not_give_way),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}

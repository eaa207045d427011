// SPDX-License-Identifier: LGPL-2.1-or-later
// driver/procedure_names.c: what refusals call the functions that we do not serve.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "driver/procedure_names.h"
#include "driver/procedures.h"

static void
numbers_have_their_names(void **state)
{
    assert_string_equal(procedure_name_remote(1), "virConnectOpen");
    assert_string_equal(procedure_name_remote(182), "virDomainManagedSave");
    assert_string_equal(procedure_name_remote(443), "virDomainFDAssociate");
    assert_string_equal(procedure_name_qemu(3), "virDomainQemuAgentCommand");
}

static void
others_have_none(void **state)
{
    assert_null(procedure_name_remote(0));
    assert_null(procedure_name_remote(107)); // a message to clients
    assert_null(procedure_name_remote(444));
    assert_null(procedure_name_remote(G_MAXUINT));
    assert_null(procedure_name_qemu(6));
    assert_null(procedure_name_qemu(G_MAXUINT));
}

// The two tables were written apart: a number that is wrong in one of them shows here.
static void
served_procedures_are_called_the_same(void **state)
{
    guint compared = 0;
    for (gsize i = 0; i < procedures_n_programs; i++)
        for (gsize j = 0; j < procedures_programs[i].n; j++) {
            const RpcProcedure *procedure = &procedures_programs[i].procedures[j];
            const char *name = procedures_programs[i].procedure_name
                                   ? procedures_programs[i].procedure_name(procedure->number)
                                   : NULL;
            if (!name)
                continue;
            assert_string_equal(name, procedure->name);
            compared++;
        }
    assert_true(compared > 50);
}

static void
unserved_programs_only_refuse(void **state)
{
    assert_int_equal(procedures_n_programs, 3);
    assert_int_equal(procedures_programs[1].program, RPC_PROGRAM_QEMU);
    assert_null(rpc_program_find(&procedures_programs[1], 1));
    assert_non_null(rpc_program_find(&procedures_programs[1], 4));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_have_their_names),
        cmocka_unit_test(others_have_none),
        cmocka_unit_test(served_procedures_are_called_the_same),
        cmocka_unit_test(unserved_programs_only_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

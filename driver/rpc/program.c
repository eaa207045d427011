// SPDX-License-Identifier: LGPL-2.1-or-later
// Looking up procedures.
#include "driver/rpc/program.h"

const RpcProcedure *
rpc_program_find(const RpcProgram *program, guint number)
{
    for (gsize i = 0; i < program->n; i++)
        if (program->procedures[i].number == number)
            return &program->procedures[i];
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "util/wanted.h"

#include <stddef.h>

static _Thread_local struct {
        bool (*is_wanted)(void *data);
        void *data;
} asked;

void strata_wanted_ask(bool (*is_wanted)(void *data), void *data)
{
        asked.is_wanted = is_wanted;
        asked.data = data;
}

bool strata_wanted(void)
{
        return !asked.is_wanted || asked.is_wanted(asked.data);
}

# SPDX-License-Identifier: Apache-2.0
# cmake -DSOURCE=FOLDER -DOUT=FILE -P revision.cmake: what the program is built from, as a C file. It is the same for the
# same commit, and left alone when nothing changed. The date is the commit's, or SOURCE_DATE_EPOCH where that is set.
set(revision unknown)
set(date unknown)

# A tarball that lies in somebody else's repository has no revision.
file(REAL_PATH ${SOURCE} source)
execute_process(COMMAND git -C ${source} rev-parse --show-toplevel
  OUTPUT_VARIABLE top RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT failed AND top STREQUAL source)
  execute_process(COMMAND git -C ${source} describe --always --abbrev=12 --dirty "--exclude=*"
    OUTPUT_VARIABLE told RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed)
    set(revision ${told})
  endif()
  execute_process(COMMAND ${CMAKE_COMMAND} -E env TZ=UTC0
    git -C ${source} log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd
    OUTPUT_VARIABLE told RESULT_VARIABLE failed ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT failed AND told)
    set(date ${told})
  endif()
endif()
if(DEFINED ENV{SOURCE_DATE_EPOCH})
  string(TIMESTAMP date %Y-%m-%dT%H:%M:%SZ UTC)
endif()

file(CONFIGURE OUTPUT ${OUT} CONTENT [[
#include "deviceplugin/agent/revision.h"

const char tr_agent_revision[] = "@revision@";
const char tr_agent_build_date[] = "@date@";
]] @ONLY)

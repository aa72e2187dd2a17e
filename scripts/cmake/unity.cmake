# -DPOSTRIDER_UNITY=ON compiles eight source files at once: a third of the processor's time of a whole
# build, but more for the change of one file. scripts/run uses it in a new folder; leave it off while
# working on the code.
option(POSTRIDER_UNITY "Compile several source files at once" OFF)

# These have names of their own file that another file of their folder has too.
set(compiled_alone
  daemon/pickup/drop_folder.cc daemon/pickup/drop_listing.cc daemon/predecessor/postfix_file.cc delivery/local/onward.cc
  delivery/tls/sts/policy_file.cc web/web_site.cc
  base/digest.cc base/net/tls/stream_tls.cc cli/passwd_command.cc daemon/pickup/submit_tables.cc mailauth/dkim_sign.cc
  daemon/protocol/effective.cc daemon/protocol/tool_paths.cc daemon/pickup/submit_server.cc daemon/notify.cc daemon/privsep/parent_child.cc daemon/privsep/parent_process.cc daemon/pickup/submit_content.cc
  daemon/protocol/submit_protocol.cc daemon/privsep/table_reader.cc daemon/config/values.cc
  delivery/core.cc delivery/local/agents/command_exit.cc delivery/local/addresses/expander.cc delivery/local/agents/local_content.cc
  delivery/local/agents/local_file.cc delivery/tls/reports/tally.cc
  daemon/dkim_check.cc daemon/doctor.cc daemon/doctor_network.cc daemon/certificate_keeper.cc daemon/signing/signing_keys.cc mailauth/signer.cc smtpd/filter/signing.cc
  cli/sendmail.cc delivery/tls/reports/reporter.cc queue/store/page_file.cc
  dns/lookup.cc mailauth/spf_record.cc mail/envelope.cc mail/header.cc mail/reply.cc queue/ledger/recording.cc
  smtpd/auth/introspection.cc smtpd/auth/pam_helper.cc
  tables/pcre_table.cc tables/scan.cc tables/sqlite_table.cc tables/table.cc)
list(TRANSFORM compiled_alone PREPEND ${CMAKE_SOURCE_DIR}/)

# unite(TARGET): the target's files are compiled together, but for those above.
function(unite target)
  get_target_property(folder ${target} SOURCE_DIR)
  get_target_property(sources ${target} SOURCES)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  foreach(source ${sources})
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${folder} NORMALIZE)
    if(source IN_LIST compiled_alone)
      set_source_files_properties(${source} TARGET_DIRECTORY ${target} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    endif()
  endforeach()
endfunction()

# unite_folder(FOLDER): every library and program below it.
function(unite_folder folder)
  get_property(targets DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target ${targets})
    get_target_property(type ${target} TYPE)
    if(type MATCHES "^(STATIC_LIBRARY|EXECUTABLE)$")
      unite(${target})
    endif()
  endforeach()
  get_property(folders DIRECTORY ${folder} PROPERTY SUBDIRECTORIES)
  foreach(below ${folders})
    unite_folder(${below})
  endforeach()
endfunction()

# Not the tests, each of which names its cases as it likes, nor the small programs for brokers.
if(POSTRIDER_UNITY)
  foreach(folder base mail mailauth dns tables queue smtpd delivery events daemon web cli)
    unite_folder(${CMAKE_SOURCE_DIR}/${folder})
  endforeach()
endif()

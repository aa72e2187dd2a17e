# Run at installation, when the prefix is known for good: writes the units with the paths that the
# programs have below it. SOURCE, BINARY, PREFIX and SBINDIR are set by who includes it.
set(CMAKE_INSTALL_PREFIX "${PREFIX}")

set(DESCRIPTION "Postrider mail transfer agent")
set(CONFLICTS "Conflicts=postfix.service exim4.service sendmail.service\n")
set(OPTIONS "")
set(NAME "postrider")
set(SPOOL "/var/spool/postrider")
# A spool that was removed is there again after a restart, as after a boot: the confined daemon cannot make it, and without it
# the unit would fail before the daemon could say why.
set(FOLDERS "ExecStartPre=+-/bin/sh -c 'systemd-tmpfiles --create postrider.conf'\n")
configure_file("${SOURCE}/postrider.service.in" "${BINARY}/postrider.service" @ONLY)

# One more daemon beside it: postrider@NAME reads /etc/postrider/NAME.toml, which names a spool and
# sockets of its own.
set(DESCRIPTION "Postrider mail transfer agent (%i)")
set(CONFLICTS "")
set(OPTIONS " -c /etc/postrider/%i.toml")
set(NAME "postrider-%i")
set(SPOOL "/var/lib/postrider-%i")
set(FOLDERS "StateDirectory=postrider-%i\nStateDirectoryMode=0711\nSlice=system.slice\n")
# The setgid drop folder, which a confined daemon cannot make: as tmpfiles does it for the first one,
# which follows no link of the user's.
string(APPEND FOLDERS "ExecStartPre=+/bin/sh -c 'echo d ${SPOOL}/drop 3733 postrider postrider - | systemd-tmpfiles --create -'\n")
configure_file("${SOURCE}/postrider.service.in" "${BINARY}/postrider@.service" @ONLY)

# Metrics and the page; it does not run until the configuration has web.listen.
configure_file("${SOURCE}/postrider-web.service.in" "${BINARY}/postrider-web.service" @ONLY)

# Events to message brokers, as far as their programs were built: BROKERS is a list of protocols.
foreach(protocol ${BROKERS})
  set(PROGRAM "postrider-${protocol}")
  if(protocol STREQUAL kafka)
    set(TITLE Kafka)
  elseif(protocol STREQUAL amqp10)
    set(TITLE "AMQP 1.0")
  else()
    string(TOUPPER ${protocol} TITLE)
  endif()
  configure_file("${SOURCE}/postrider-broker.service.in" "${BINARY}/${PROGRAM}.service" @ONLY)
  file(INSTALL "${BINARY}/${PROGRAM}.service" DESTINATION "${PREFIX}/lib/systemd/system")
endforeach()

file(INSTALL "${BINARY}/postrider.service" "${BINARY}/postrider@.service" "${BINARY}/postrider-web.service" "${SOURCE}/postrider.socket"
     DESTINATION "${PREFIX}/lib/systemd/system")

# Run at installation, when the prefix is known for good: writes the units with the paths that the
# programs have below it. SOURCE, BINARY, PREFIX and SBINDIR are set by who includes it.
set(CMAKE_INSTALL_PREFIX "${PREFIX}")

set(DESCRIPTION "Postrider mail transfer agent")
set(CONFLICTS "Conflicts=postfix.service exim4.service sendmail.service\n")
set(OPTIONS "")
set(NAME "postrider")
set(SPOOL "/var/spool/postrider")
set(FOLDERS "")
configure_file("${SOURCE}/postrider.service.in" "${BINARY}/postrider.service" @ONLY)

# One more daemon beside it: postrider@NAME reads /etc/postrider/NAME.toml, which names a spool and
# sockets of its own.
set(DESCRIPTION "Postrider mail transfer agent (%i)")
set(CONFLICTS "")
set(OPTIONS " -c /etc/postrider/%i.toml")
set(NAME "postrider-%i")
set(SPOOL "/var/lib/postrider-%i")
set(FOLDERS "StateDirectory=postrider-%i\nStateDirectoryMode=0711\nSlice=system.slice\n")
configure_file("${SOURCE}/postrider.service.in" "${BINARY}/postrider@.service" @ONLY)

file(INSTALL "${BINARY}/postrider.service" "${BINARY}/postrider@.service" "${SOURCE}/postrider.socket"
     DESTINATION "${PREFIX}/lib/systemd/system")

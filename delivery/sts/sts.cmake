# MTA-STS and TLS reports: part of postrider_delivery.
target_sources(postrider_delivery PRIVATE
  sts/cache.cc sts/mta_sts.cc sts/policy_file.cc sts/tags.cc
  tls_history.cc tlsrpt/record.cc tlsrpt/report.cc tlsrpt/reporter.cc tlsrpt/tally.cc)
target_link_libraries(postrider_delivery PRIVATE Boost::json ZLIB::ZLIB)

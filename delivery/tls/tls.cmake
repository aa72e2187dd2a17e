# MTA-STS, TLS reports, and what they have in common with other daily reports: part of postrider_delivery.
target_sources(postrider_delivery PRIVATE
  reports/daily_reporter.cc reports/dmarc_ledger.cc reports/dmarc_reporter.cc reports/journal_files.cc reports/report_mail.cc
  tls/sts/policy_cache.cc tls/sts/mta_sts.cc tls/sts/policy_file.cc tls/sts/tags.cc
  tls/tls_history.cc tls/reports/record.cc tls/reports/report.cc tls/reports/reporter.cc tls/reports/tally.cc)
target_link_libraries(postrider_delivery PRIVATE Boost::json ZLIB::ZLIB)

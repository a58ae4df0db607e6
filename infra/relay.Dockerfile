# The relay is linked against glibc 2.34, which is Amazon Linux 2023's; its TLS roots are compiled in.
FROM public.ecr.aws/amazonlinux/amazonlinux:2023-minimal
COPY bootstrap /relay
USER 65532:65532
ENTRYPOINT ["/relay"]

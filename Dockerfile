# lstmkernel without a compiler in the image: docker build -t lstmkernel . && docker run --rm lstmkernel info
FROM python:3.13 AS build
COPY . /src
RUN LSTMKERNEL_REQUIRE_C=1 pip wheel -q --no-deps -w /wheels /src

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install -q --no-cache-dir /wheels/*.whl && rm -r /wheels
ENTRYPOINT ["lstmkernel"]

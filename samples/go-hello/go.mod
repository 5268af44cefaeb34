module samara.dev/samples/go-hello

go 1.26

// Says hello from another language's toolchain: GOOS=wasip1 GOARCH=wasm.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Printf("hello from go on %s/%s\n", runtime.GOOS, runtime.GOARCH)
	for _, argument := range os.Args[1:] {
		fmt.Printf("argument: %s\n", argument)
	}
}
